use super::attention::{SHAPES, pair_flops};
use super::case::{Case, Work, bounds, lengths_label};
use crate::device::{Call, DType};
use crate::kernels::{AttentionBackwardKeyValue, Heads};

/// The gradient over packed sequences of these lengths, with the lse of a forward pass.
fn case(lengths: &[usize], heads: Heads) -> Case {
    let tokens: usize = lengths.iter().sum();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let Heads { heads: h, kv_heads: g, head_dim: d } = heads;
    let shape = format!("{}, {h}/{g} heads of {d}", lengths_label(lengths));
    let case = Case::new(AttentionBackwardKeyValue::SIGNATURE, shape, Work::Flops(4.0 * pair_flops(lengths, heads)))
        .u32s("bounds", bounds(lengths))
        .input("q", &[tokens, h, d])
        .input("k", &[tokens, g, d])
        .input("v", &[tokens, g, d])
        .input("dout", &[tokens, h, d]);
    let statistics = super::attention::row_statistics(&case, heads, (tokens, longest));
    case.floats("row_statistics", &[tokens, h, 2], DType::Real, statistics)
        .output("dk", &[tokens, g, d])
        .output("dv", &[tokens, g, d])
        .run(move |device, tensors| {
            let [bounds, q, k, v, dout, row_statistics, dk, dv] = tensors else { unreachable!() };
            let dimensions = (tokens, longest);
            AttentionBackwardKeyValue::run(
                device,
                heads,
                dimensions,
                bounds,
                (q, k, v),
                (dout, row_statistics),
                (dk, dv),
            );
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A sequence of one token has no gradient here: its only probability is 1. Alone it would be all rounding.
    let shapes = SHAPES.into_iter().filter(|(lengths, _)| lengths != &[1]);
    // 4200 tokens are 132 tiles: where loops are cut short the six heads of the group take two calls. A sum of 6 * 4200 terms
    // in f32, in one chain, has an error of some sqrt(25200) * 2^-24 = 1e-5.
    let in_two_calls = case(&[4200], Heads { heads: 6, kv_heads: 1, head_dim: 4 }).within(5e-5);
    shapes.map(|(lengths, heads)| case(lengths, heads)).chain([in_two_calls]).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[128; 8], Heads { heads: 9, kv_heads: 3, head_dim: 64 })]
}
