use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{BLOCK_ROWS, RmsNormBackwardWeight};

/// RMSNorm's weight gradient for `rows` x `cols`, by blocks of rows.
fn case(rows: usize, cols: usize) -> Case {
    let work = Work::Bytes(8.0 * (rows * cols) as f64);
    Case::new(RmsNormBackwardWeight::SIGNATURE, format!("{rows} x {cols}"), work)
        .input("dy", &[rows, cols])
        .input("x", &[rows, cols])
        .input("rstd", &[rows])
        .output("partial", &[rows.div_ceil(BLOCK_ROWS), cols])
        .run(move |device, tensors| {
            let [dy, x, rstd, partial] = tensors else { unreachable!() };
            let (rows, cols, block_rows) = (rows as u32, cols as u32, BLOCK_ROWS as u32);
            device.run(RmsNormBackwardWeight { dy, x, rstd, partial, rows, cols, block_rows });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    [(37, 123), (1, 1), (64, 4), (65, 4), (1000, 576)].map(|(rows, cols)| case(rows, cols)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(8192, 3584))
}
