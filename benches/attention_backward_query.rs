use super::attention::{SHAPES, pair_flops};
use super::case::{Case, Work, bounds, lengths_label};
use crate::device::{Call, DType};
use crate::kernels::{AttentionBackwardQuery, Heads};

/// The gradient over packed sequences of these lengths, with the lse of a forward pass.
fn case(lengths: &[usize], heads: Heads) -> Case {
    let tokens: usize = lengths.iter().sum();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let Heads { heads: h, kv_heads: g, head_dim: d } = heads;
    let shape = format!("{}, {h}/{g} heads of {d}", lengths_label(lengths));
    let case = Case::new(AttentionBackwardQuery::SIGNATURE, shape, Work::Flops(3.0 * pair_flops(lengths, heads)))
        .u32s("bounds", bounds(lengths))
        .input("q", &[tokens, h, d])
        .input("k", &[tokens, g, d])
        .input("v", &[tokens, g, d])
        .input("dout", &[tokens, h, d]);
    let statistics = super::attention::row_statistics(&case, heads, (tokens, longest));
    case.floats("row_statistics", &[tokens, h, 2], DType::Real, statistics).output("dq", &[tokens, h, d]).run(
        move |device, tensors| {
            let [bounds, q, k, v, dout, row_statistics, dq] = tensors else { unreachable!() };
            let dimensions = (tokens, longest);
            AttentionBackwardQuery::run(device, heads, dimensions, bounds, (q, k, v), (dout, row_statistics), dq);
        },
    )
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A sequence of one token has no gradient here: its only probability is 1. Alone it would be all rounding.
    let shapes = SHAPES.into_iter().filter(|(lengths, _)| lengths != &[1]);
    shapes.map(|(lengths, heads)| case(lengths, heads)).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[128; 8], Heads { heads: 9, kv_heads: 3, head_dim: 64 })]
}
