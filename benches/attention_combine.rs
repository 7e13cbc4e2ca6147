use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::AttentionCombine;

/// `parts` parts of `rows` x `cols`; the logarithms are up to `range`.
fn case(parts: usize, rows: usize, cols: usize, range: f64) -> Case {
    let shape = format!("{parts} x {rows} x {cols}, +-{range}");
    Case::new(AttentionCombine::SIGNATURE, shape, Work::Bytes(4.0 * ((parts + 1) * rows * cols) as f64))
        .input("outputs", &[parts, rows, cols])
        .scaled("lse", &[parts, rows], range)
        .output("o", &[rows, cols])
        .run(move |device, tensors| {
            let [outputs, lse, o] = tensors else { unreachable!() };
            device.run(AttentionCombine { outputs, lse, o, parts: parts as u32, rows: rows as u32, cols: cols as u32 });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A logarithm of 80 has 80 * 2^-24 = 5e-6 of absolute precision in f32, and exp makes that a relative error.
    let steep = case(9, 37, 64, 80.0).within(2e-5);
    [(1, 1, 4), (2, 14, 64), (33, 5, 100)]
        .map(|(parts, rows, cols)| case(parts, rows, cols, 1.0))
        .into_iter()
        .chain([steep])
        .collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(8, 32 * 14, 64, 1.0)]
}
