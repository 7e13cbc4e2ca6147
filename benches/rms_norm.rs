use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::RmsNorm;

/// RMSNorm of `rows` x `cols`, with Gemma's offset where `offset` is 1; added to what is there where `accumulate` is.
fn case(rows: usize, cols: usize, offset: f32, accumulate: bool) -> Case {
    let work = Work::Bytes(8.0 * (rows * cols) as f64);
    Case::new(
        RmsNorm::SIGNATURE,
        format!("{rows} x {cols}, offset {offset}{}", if accumulate { ", added" } else { "" }),
        work,
    )
    .input("x", &[rows, cols])
    .input("weight", &[cols])
    .output("y", &[rows, cols])
    .output("rstd", &[rows])
    .run(move |device, tensors| {
        let [x, weight, y, rstd] = tensors else { unreachable!() };
        let (rows, cols) = (rows as u32, cols as u32);
        device.run(RmsNorm { x, weight, y, rstd, rows, cols, epsilon: 1e-5, offset, accumulate: accumulate.into() });
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let sizes = [(37, 123), (1, 1), (1, 4), (130, 576), (3, 4096), (65, 7)];
    sizes
        .into_iter()
        .flat_map(|(rows, cols)| [(0.0, false), (1.0, true)].map(|(offset, add)| case(rows, cols, offset, add)))
        .collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576, 0.0, false)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(8192, 3584, 0.0, false))
}
