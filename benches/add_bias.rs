use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::AddBias;

/// A bias on `rows` x `cols`.
fn case(rows: usize, cols: usize) -> Case {
    Case::new(AddBias::SIGNATURE, format!("{rows} x {cols}"), Work::Bytes(8.0 * (rows * cols) as f64))
        .input("bias", &[cols])
        .output("y", &[rows, cols])
        .run(move |device, tensors| {
            let [bias, y] = tensors else { unreachable!() };
            device.run(AddBias { bias, y, rows: rows as u32, cols: cols as u32 });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // One sum, rounded once.
    [(37, 123), (1, 1), (130, 576)].map(|(rows, cols)| case(rows, cols).within(1e-6)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576)]
}
