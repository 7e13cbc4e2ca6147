use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::AttentionBackwardDelta;

/// The row statistics of `rows` heads of tokens.
fn case(rows: usize, head_dim: usize) -> Case {
    let work = Work::Bytes(8.0 * (rows * head_dim) as f64);
    Case::new(AttentionBackwardDelta::SIGNATURE, format!("{rows} x {head_dim}"), work)
        .input("o", &[rows, head_dim])
        .input("dout", &[rows, head_dim])
        .input("lse", &[rows])
        .output("row_statistics", &[rows, 2])
        .run(move |device, tensors| {
            let [o, dout, lse, row_statistics] = tensors else { unreachable!() };
            let (rows, head_dim) = (rows as u32, head_dim as u32);
            device.run(AttentionBackwardDelta { o, dout, lse, row_statistics, rows, head_dim });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    [(37, 124), (1, 4), (130, 64), (9, 256)].map(|(rows, head_dim)| case(rows, head_dim)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024 * 9, 64)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(8192 * 28, 128))
}
