use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{NONE, ScatterRows};

/// `rows` keys and values of `cols` into distinct places out of `places`, every fifth of them into none.
fn case(rows: usize, places: usize, cols: usize) -> Case {
    let work = Work::Bytes(16.0 * (rows * cols) as f64);
    let case = Case::new(ScatterRows::SIGNATURE, format!("{rows} to {places} x {cols}"), work);
    let place = |row: usize| if row % 5 == 4 { NONE } else { (places - 1 - row) as u32 };
    case.u32s("index", (0..rows).map(place).collect())
        .input("k", &[rows, cols])
        .input("v", &[rows, cols])
        .output("cached_k", &[places, cols])
        .output("cached_v", &[places, cols])
        .run(move |device, tensors| {
            let [index, k, v, cached_k, cached_v] = tensors else { unreachable!() };
            device.run(ScatterRows { index, k, v, cached_k, cached_v, rows: rows as u32, cols: cols as u32 });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A copy is exact.
    [(37, 40, 123), (1, 1, 1), (130, 500, 576)].map(|(rows, places, cols)| case(rows, places, cols).within(0.0)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 4096, 576)]
}
