use anyhow::Result;

use super::case::{Case, Work, bounds, lengths_label};
use crate::device::{Call, DType, Device, Precision};
use crate::gpu::Signature;
use crate::kernels::{Attention, AttentionBackwardDelta, Heads, Projections, Sequences};

/// Two operations for each value of a head and each pair of a query and a key it sees, over sequences of these lengths.
fn pair_flops(lengths: &[usize], heads: Heads) -> f64 {
    let pairs: usize = lengths.iter().map(|n| n * (n + 1) / 2).sum();
    2.0 * (pairs * heads.heads * heads.head_dim) as f64
}

/// Attention over packed sequences of these lengths; queries and keys between `-range` and `range`.
fn case(lengths: &[usize], heads: Heads, range: f64) -> Case {
    let tokens: usize = lengths.iter().sum();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let Heads { heads: h, kv_heads: g, head_dim: d } = heads;
    let shape = format!("{}, {h}/{g} heads of {d}, +-{range}", lengths_label(lengths));
    Case::new(Attention::SIGNATURE, shape, Work::Flops(2.0 * pair_flops(lengths, heads)))
        .u32s("bounds", bounds(lengths))
        .scaled("q", &[tokens, h, d], range)
        .scaled("k", &[tokens, g, d], range)
        .input("v", &[tokens, g, d])
        .output("o", &[tokens, h, d])
        .output("lse", &[tokens, h])
        .run(move |device, tensors| {
            let [bounds, q, k, v, o, lse] = tensors else { unreachable!() };
            Attention::run(device, heads, Sequences { bounds, tokens, longest }, Projections { q, k, v }, o, lse);
        })
}

/// [`backward`] or [`large_backward`].
pub(super) type Backward = fn(&'static Signature, f64, &[usize], Heads) -> Case;

/// The inputs of a backward pass over packed sequences of these lengths: bounds, q, k, v, dout, and lse and delta of a forward
/// pass. It does `flops` operations for each pair of a query and a key and each value of a head.
pub(super) fn backward(signature: &'static Signature, flops: f64, lengths: &[usize], heads: Heads) -> Case {
    let case = projections(signature, flops, lengths, heads);
    let statistics = row_statistics(&case, heads, lengths).expect("the CPU device has room for a case");
    with_statistics(case, heads, statistics)
}

/// As [`backward`], of sequences that are too long to compute forward first: lse is what it is on average where queries and
/// keys are uniform between -1 and 1, delta is 0.
pub(super) fn large_backward(signature: &'static Signature, flops: f64, lengths: &[usize], heads: Heads) -> Case {
    const VARIANCE: f64 = 1.0 / 9.0; // of a score: 1/3 of a value of q and of k each, over all of a head, by scale^2
    let keys = lengths.iter().flat_map(|&length| 1..=length);
    let of_token = |keys: usize| std::iter::repeat_n([(keys as f64).ln() + VARIANCE / 2.0, 0.0], heads.heads);
    let statistics = keys.flat_map(of_token).flatten().collect();
    with_statistics(projections(signature, flops, lengths, heads), heads, statistics)
}

fn with_statistics(case: Case, heads: Heads, statistics: Vec<f64>) -> Case {
    let tokens = statistics.len() / (2 * heads.heads);
    let statistics = statistics.into_iter().map(|value| f64::from(value as f32)).collect();
    case.floats("row_statistics", &[tokens, heads.heads, 2], DType::Real, statistics)
}

/// The inputs of [`backward`] but for the rows' statistics.
fn projections(signature: &'static Signature, flops: f64, lengths: &[usize], heads: Heads) -> Case {
    let tokens = lengths.iter().sum();
    let Heads { heads: h, kv_heads: g, head_dim: d } = heads;
    let shape = format!("{}, {h}/{g} heads of {d}", lengths_label(lengths));
    Case::new(signature, shape, Work::Flops(flops / 2.0 * pair_flops(lengths, heads)))
        .u32s("bounds", bounds(lengths))
        .input("q", &[tokens, h, d])
        .input("k", &[tokens, g, d])
        .input("v", &[tokens, g, d])
        .input("dout", &[tokens, h, d])
}

/// `(lse, delta)` of the forward pass over the tensors of a backward case so far, from the f64 twins.
fn row_statistics(case: &Case, heads: Heads, lengths: &[usize]) -> Result<Vec<f64>> {
    let (tokens, longest) = (lengths.iter().sum::<usize>(), lengths.iter().copied().max().unwrap_or(0));
    let device = Device::cpu(Precision::F64);
    let tensors = case.tensors(&device)?;
    let [bounds, q, k, v, dout] = &tensors[..] else { unreachable!() };
    let rows = tokens * heads.heads;
    let mut o = device.tensor("o", dout.shape(), DType::Real)?;
    let mut lse = device.tensor("lse", &[rows], DType::Real)?;
    let mut row_statistics = device.tensor("row_statistics", &[rows, 2], DType::Real)?;
    let sequences = Sequences { bounds, tokens, longest };
    Attention::run(&device, heads, sequences, Projections { q, k, v }, &mut o, &mut lse);
    device.run(AttentionBackwardDelta {
        o: &o,
        dout,
        lse: &lse,
        row_statistics: &mut row_statistics,
        rows: rows as u32,
        head_dim: heads.head_dim as u32,
    });
    row_statistics.read(2 * rows)
}

/// Sequences and heads that every attention kernel is tested on.
pub(super) const SHAPES: [(&[usize], Heads); 8] = [
    (&[1], Heads { heads: 1, kv_heads: 1, head_dim: 4 }),
    (&[37, 1, 60], Heads { heads: 6, kv_heads: 2, head_dim: 12 }),
    (&[5, 31, 32, 33, 64, 3], Heads { heads: 2, kv_heads: 2, head_dim: 32 }),
    (&[130], Heads { heads: 3, kv_heads: 1, head_dim: 64 }),
    (&[40, 50], Heads { heads: 4, kv_heads: 1, head_dim: 100 }),
    (&[70], Heads { heads: 2, kv_heads: 1, head_dim: 256 }),
    (&[35], Heads { heads: 2, kv_heads: 1, head_dim: 96 }),
    (&[35], Heads { heads: 2, kv_heads: 1, head_dim: 128 }),
];

/// What is tested.
pub fn tests() -> Vec<Case> {
    let ordinary = SHAPES.map(|(lengths, heads)| case(lengths, heads, 1.0));
    // A score of 2000 has 2000 * 2^-24 = 1e-4 of absolute precision in f32, and exp makes that a relative error.
    let steep = case(&[37, 60], Heads { heads: 2, kv_heads: 1, head_dim: 64 }, 30.0).within(3e-4);
    ordinary.into_iter().chain([steep]).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[128; 8], Heads { heads: 9, kv_heads: 3, head_dim: 64 }, 1.0)]
}

/// Heads of Qwen2-0.5B.
pub(super) const SMALL_HEADS: Heads = Heads { heads: 14, kv_heads: 2, head_dim: 64 };

/// Heads of Qwen2-7B.
pub(super) const LARGE_HEADS: Heads = Heads { heads: 28, kv_heads: 4, head_dim: 128 };

/// Sequences and heads of the large rows of attention and its gradients.
pub(super) const LARGE: [(&[usize], Heads); 5] = [
    (&[512; 8], SMALL_HEADS),
    (&[2048], SMALL_HEADS),
    (&[8192], SMALL_HEADS),
    (&[2048], LARGE_HEADS),
    (&[8192], LARGE_HEADS),
];

/// The large rows of the table.
pub fn large() -> impl Iterator<Item = Case> {
    LARGE.into_iter().map(|(lengths, heads)| case(lengths, heads, 1.0))
}
