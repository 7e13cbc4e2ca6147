use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::RmsNorm;

/// RMSNorm of `rows` x `cols`, with Gemma's offset where `offset` is 1.
pub fn case(rows: usize, cols: usize, offset: f32) -> Case {
    let work = Work::Bytes(8.0 * (rows * cols) as f64);
    Case::new(RmsNorm::SIGNATURE, format!("{rows} x {cols}, offset {offset}"), work)
        .input("x", &[rows, cols])
        .input("weight", &[cols])
        .output("y", &[rows, cols])
        .output("rstd", &[rows])
        .run(move |device, tensors| {
            let [x, weight, y, rstd] = tensors else { unreachable!() };
            let (rows, cols) = (rows as u32, cols as u32);
            device.run(RmsNorm { x, weight, y, rstd, rows, cols, epsilon: 1e-5, offset });
        })
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576, 0.0)]
}
