use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::RmsNormBackward;

/// RMSNorm's input gradient for `rows` x `cols`, overwritten or added to the residual stream's.
fn case(rows: usize, cols: usize, accumulate: bool) -> Case {
    let bytes = if accumulate { 16.0 } else { 12.0 };
    let shape = format!("{rows} x {cols}{}", if accumulate { ", added" } else { "" });
    Case::new(RmsNormBackward::SIGNATURE, shape, Work::Bytes(bytes * (rows * cols) as f64))
        .input("dy", &[rows, cols])
        .input("x", &[rows, cols])
        .input("weight", &[cols])
        .input("rstd", &[rows])
        .output("dx", &[rows, cols])
        .run(move |device, tensors| {
            let [dy, x, weight, rstd, dx] = tensors else { unreachable!() };
            let (rows, cols, accumulate) = (rows as u32, cols as u32, accumulate.into());
            device.run(RmsNormBackward { dy, x, weight, rstd, dx, rows, cols, offset: 1.0, accumulate });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let sizes = [(37, 123), (1, 1), (1, 4), (130, 576), (3, 4096)];
    sizes.into_iter().flat_map(|(rows, cols)| [false, true].map(|accumulate| case(rows, cols, accumulate))).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576, true)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(8192, 3584, true))
}
