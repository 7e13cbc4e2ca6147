use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::ColumnSum;

/// Sums of `rows` x `cols` over both steps, added to what is there.
fn case(rows: usize, cols: usize) -> Case {
    let work = Work::Bytes(4.0 * (rows * cols) as f64);
    Case::new(ColumnSum::SIGNATURE, format!("{rows} x {cols}"), work)
        .input("x", &[rows, cols])
        .input("partial", &[rows.div_ceil(crate::kernels::BLOCK_ROWS), cols])
        .output("sums", &[cols])
        .run(move |device, tensors| {
            let [x, partial, sums] = tensors else { unreachable!() };
            ColumnSum::in_two_steps(device, x, partial, sums, rows, cols);
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    [(37, 123), (1, 1), (64, 4), (65, 4), (5000, 576)].map(|(rows, cols)| case(rows, cols)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576)]
}
