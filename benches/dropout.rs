use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{Chance, Dropout};

/// A tenth of `rows` x `cols` left out, by the keys from `first_key` on.
fn case(rows: usize, cols: usize, first_key: usize, accumulate: bool) -> Case {
    let shape = format!("{rows} x {cols}{}", if accumulate { ", added" } else { "" });
    let mut case = Case::new(Dropout::SIGNATURE, shape, Work::Bytes(8.0 * (rows * cols) as f64));
    let keys = case.indices(first_key + rows, 1 << 31);
    case.u32s("keys", keys).input("x", &[rows, cols]).output("y", &[rows, cols]).run(move |device, tensors| {
        let [keys, x, y] = tensors else { unreachable!() };
        let Chance { threshold, scale } = Chance::of(0.1);
        let [rows, cols, first_key] = [rows, cols, first_key].map(|size| size as u32);
        let accumulate = accumulate.into();
        device.run(Dropout { keys, x, y, rows, cols, first_key, site: 0x9e37_79b9, threshold, scale, accumulate });
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // One product and one sum, each rounded once; a value that one device leaves out and another keeps would be off by all of it.
    let sizes = [(1, 4, 0), (37, 124, 5), (130, 576, 0)].into_iter();
    sizes
        .flat_map(|(rows, cols, first_key)| [false, true].map(|added| case(rows, cols, first_key, added).within(1e-6)))
        .collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576, 0, false)]
}
