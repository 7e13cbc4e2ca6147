use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::{Heads, Rope};

/// Positions of which a case has angles.
pub(super) const POSITIONS: usize = 50;

/// `[POSITIONS, head_dim]`: the cosines and sines of random angles.
pub(super) fn table(case: &mut Case, head_dim: usize) -> Vec<f64> {
    let angles = case.uniform(POSITIONS * head_dim / 2);
    let rows = angles.chunks(head_dim / 2);
    let table = rows.flat_map(|row| row.iter().map(|a| a.cos()).chain(row.iter().map(|a| a.sin())));
    table.map(|value| f64::from(value as f32)).collect()
}

/// The queries and keys of `tokens` rotated by `sign` times the angles of random positions.
fn case(tokens: usize, heads: Heads, sign: f32) -> Case {
    let Heads { heads, kv_heads, head_dim } = heads;
    let shape = format!("{tokens} x {heads}/{kv_heads} x {head_dim}, sign {sign}");
    let bytes = 8 * tokens * (heads + kv_heads) * head_dim;
    let mut case = Case::new(Rope::SIGNATURE, shape, Work::Bytes(bytes as f64));
    let positions = case.indices(tokens, POSITIONS);
    let table = table(&mut case, head_dim);
    case.u32s("positions", positions)
        .floats("table", &[POSITIONS, head_dim], DType::Real, table)
        .output("q", &[tokens, heads, head_dim])
        .output("k", &[tokens, kv_heads, head_dim])
        .run(move |device, tensors| {
            let [positions, table, q, k] = tensors else { unreachable!() };
            let (tokens, head_dim) = (tokens as u32, head_dim as u32);
            let (heads, kv_heads) = (heads as u32, kv_heads as u32);
            device.run(Rope { positions, table, q, k, tokens, heads, kv_heads, head_dim, sign });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // Two products and a sum.
    let sizes = [(37, 3, 1, 10), (1, 1, 1, 2), (100, 9, 3, 64), (7, 2, 2, 128)].into_iter();
    let heads = |(tokens, heads, kv_heads, head_dim)| (tokens, Heads { heads, kv_heads, head_dim });
    let both_ways = |(tokens, heads)| [1.0, -1.0].map(|sign| case(tokens, heads, sign).within(1e-6));
    sizes.map(heads).flat_map(both_ways).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, Heads { heads: 9, kv_heads: 3, head_dim: 64 }, 1.0)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(8192, Heads { heads: 28, kv_heads: 4, head_dim: 128 }, 1.0))
}
