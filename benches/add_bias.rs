use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::AddBias;

/// A bias on `rows` x `cols`.
pub fn case(rows: usize, cols: usize) -> Case {
    Case::new(AddBias::SIGNATURE, format!("{rows} x {cols}"), Work::Bytes(8.0 * (rows * cols) as f64))
        .input("bias", &[cols])
        .output("y", &[rows, cols])
        .run(move |device, tensors| {
            let [bias, y] = tensors else { unreachable!() };
            device.run(AddBias { bias, y, rows: rows as u32, cols: cols as u32 });
        })
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576)]
}
