use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::Rope;

/// `tokens` x `heads` x `head_dim` rotated by `sign` times the angles of random positions.
fn case(tokens: usize, heads: usize, head_dim: usize, sign: f32) -> Case {
    let shape = format!("{tokens} x {heads} x {head_dim}, sign {sign}");
    let mut case = Case::new(Rope::SIGNATURE, shape, Work::Bytes(8.0 * (tokens * heads * head_dim) as f64));
    let positions = case.indices(tokens, 50);
    let angles = case.uniform(50 * head_dim / 2);
    let rows = angles.chunks(head_dim / 2);
    let table = rows.flat_map(|row| row.iter().map(|a| a.cos()).chain(row.iter().map(|a| a.sin())));
    let table = table.map(|value| f64::from(value as f32)).collect();
    case.u32s("positions", positions)
        .floats("table", &[50, head_dim], DType::Real, table)
        .output("x", &[tokens, heads, head_dim])
        .run(move |device, tensors| {
            let [positions, table, x] = tensors else { unreachable!() };
            let (tokens, heads, head_dim) = (tokens as u32, heads as u32, head_dim as u32);
            device.run(Rope { positions, table, x, tokens, heads, head_dim, sign });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // Two products and a sum.
    let sizes = [(37, 3, 10), (1, 1, 2), (100, 9, 64), (7, 2, 128)].into_iter();
    let both_ways = |(tokens, heads, head_dim)| [1.0, -1.0].map(|sign| case(tokens, heads, head_dim, sign));
    sizes.flat_map(both_ways).map(|case| case.within(1e-6)).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 9, 64, 1.0)]
}
