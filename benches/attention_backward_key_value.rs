use super::attention::{Backward, LARGE, SHAPES, backward, large_backward};
use super::case::Case;
use crate::device::Call;
use crate::kernels::{AttentionBackwardKeyValue, Heads, KeyValueGradients, OutputGradient, Projections, Sequences};

/// The gradient over packed sequences of these lengths.
fn case(inputs: Backward, lengths: &[usize], heads: Heads) -> Case {
    let tokens: usize = lengths.iter().sum();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let Heads { heads: h, kv_heads, head_dim } = heads;
    let case = inputs(AttentionBackwardKeyValue::SIGNATURE, 8.0, lengths, heads);
    let case = case.output("dk", &[tokens, kv_heads, head_dim]).output("dv", &[tokens, kv_heads, head_dim]);
    case.input("partial", &[h / kv_heads, tokens, kv_heads, head_dim]).run(move |device, tensors| {
        let [bounds, q, k, v, dout, row_statistics, dk, dv, partial] = tensors else { unreachable!() };
        let (sequences, projections) = (Sequences { bounds, tokens, longest }, Projections { q, k, v });
        let output = OutputGradient { dout, row_statistics };
        let gradients = KeyValueGradients { dk, dv, partial };
        AttentionBackwardKeyValue::run(device, heads, sequences, projections, output, gradients);
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A sequence of one token has no gradient here: its only probability is 1. Alone it would be all rounding.
    let shapes = SHAPES.into_iter().filter(|(lengths, _)| lengths != &[1]);
    // 4200 tokens are 132 tiles: where loops are cut short the six heads of the group take two calls. A sum of 6 * 4200 terms
    // in f32, in one chain, has an error of some sqrt(25200) * 2^-24 = 1e-5.
    let in_two_calls = case(backward, &[4200], Heads { heads: 6, kv_heads: 1, head_dim: 4 }).within(5e-5);
    shapes.map(|(lengths, heads)| case(backward, lengths, heads)).chain([in_two_calls]).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(backward, &[128; 8], Heads { heads: 9, kv_heads: 3, head_dim: 64 })]
}

/// The large rows of the table.
pub fn large() -> impl Iterator<Item = Case> {
    LARGE.into_iter().map(|(lengths, heads)| case(large_backward, lengths, heads))
}
