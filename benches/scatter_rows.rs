use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{NONE, ScatterRows};

/// `rows` rows of `cols` into distinct places out of `places`, every fifth of them into none.
pub fn case(rows: usize, places: usize, cols: usize) -> Case {
    let work = Work::Bytes(8.0 * (rows * cols) as f64);
    let case = Case::new(ScatterRows::SIGNATURE, format!("{rows} to {places} x {cols}"), work);
    let place = |row: usize| if row % 5 == 4 { NONE } else { (places - 1 - row) as u32 };
    let index = (0..rows).map(place).collect();
    case.u32s("index", index).input("x", &[rows, cols]).output("y", &[places, cols]).run(move |device, tensors| {
        let [index, x, y] = tensors else { unreachable!() };
        device.run(ScatterRows { index, x, y, rows: rows as u32, cols: cols as u32 });
    })
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 4096, 576)]
}
