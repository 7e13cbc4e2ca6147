use super::case::{Case, Work};
use crate::device::Call;
use crate::device::DType;
use crate::kernels::Rope;

/// `tokens` x `heads` x `head_dim` rotated by `sign` times the angles of random positions.
pub fn case(tokens: usize, heads: usize, head_dim: usize, sign: f32) -> Case {
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

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 9, 64, 1.0)]
}
