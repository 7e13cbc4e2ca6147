use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{GatherRows, NONE};

/// `rows` rows of `cols` out of `sources`, every fifth of them none.
fn case(rows: usize, sources: usize, cols: usize) -> Case {
    let work = Work::Bytes(8.0 * (rows * cols) as f64);
    let mut case = Case::new(GatherRows::SIGNATURE, format!("{rows} of {sources} x {cols}"), work);
    let mut index = case.indices(rows, sources);
    index.iter_mut().step_by(5).for_each(|index| *index = NONE);
    case.u32s("index", index).input("x", &[sources, cols]).output("y", &[rows, cols]).run(move |device, tensors| {
        let [index, x, y] = tensors else { unreachable!() };
        device.run(GatherRows { index, x, y, rows: rows as u32, cols: cols as u32 });
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A copy is exact.
    [(37, 12, 123), (1, 1, 1), (130, 500, 576)]
        .map(|(rows, sources, cols)| case(rows, sources, cols).within(0.0))
        .into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 1024, 576)]
}
