use super::attention::{Backward, LARGE, SHAPES, backward, large_backward};
use super::case::Case;
use crate::device::Call;
use crate::kernels::{AttentionBackwardQuery, Heads, OutputGradient, Projections, Sequences};

/// The gradient over packed sequences of these lengths.
fn case(inputs: Backward, lengths: &[usize], heads: Heads) -> Case {
    let tokens: usize = lengths.iter().sum();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let case = inputs(AttentionBackwardQuery::SIGNATURE, 6.0, lengths, heads);
    case.output("dq", &[tokens, heads.heads, heads.head_dim]).run(move |device, tensors| {
        let [bounds, q, k, v, dout, row_statistics, dq] = tensors else { unreachable!() };
        let (sequences, projections) = (Sequences { bounds, tokens, longest }, Projections { q, k, v });
        let output = OutputGradient { dout, row_statistics };
        AttentionBackwardQuery::run(device, heads, sequences, projections, output, dq);
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A sequence of one token has no gradient here: its only probability is 1. Alone it would be all rounding.
    let shapes = SHAPES.into_iter().filter(|(lengths, _)| lengths != &[1]);
    shapes.map(|(lengths, heads)| case(backward, lengths, heads)).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(backward, &[128; 8], Heads { heads: 9, kv_heads: 3, head_dim: 64 })]
}

/// The large rows of the table.
pub fn large() -> impl Iterator<Item = Case> {
    LARGE.into_iter().map(|(lengths, heads)| case(large_backward, lengths, heads))
}
