use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::AddRmsNorm;

/// Residual add and RMSNorm of `rows` x `cols`, or the norm alone.
fn case(rows: usize, cols: usize, offset: f32, add: bool) -> Case {
    let bytes = if add { 16.0 } else { 12.0 };
    let shape = format!("{rows} x {cols}, offset {offset}{}", if add { "" } else { ", nothing added" });
    Case::new(AddRmsNorm::SIGNATURE, shape, Work::Bytes(bytes * (rows * cols) as f64))
        .input("x", &[rows, cols])
        .input("delta", &[rows, cols])
        .input("weight", &[cols])
        .output("h", &[rows, cols])
        .output("y", &[rows, cols])
        .output("rstd", &[rows])
        .run(move |device, tensors| {
            let [x, delta, weight, h, y, rstd] = tensors else { unreachable!() };
            let (rows, cols, add) = (rows as u32, cols as u32, add.into());
            device.run(AddRmsNorm { x, delta, weight, h, y, rstd, rows, cols, epsilon: 1e-6, offset, add });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let sizes = [(37, 123), (1, 1), (1, 4), (130, 576), (3, 4096)];
    let case = |(rows, cols)| [0.0, 1.0].map(|offset| [true, false].map(|add| case(rows, cols, offset, add)));
    sizes.into_iter().flat_map(case).flatten().collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576, 0.0, true)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(8192, 3584, 0.0, true))
}
