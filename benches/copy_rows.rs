use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::CopyRows;

/// `rows` x `cols` from one place to another; the rows before and after stay.
fn case(rows: usize, cols: usize, first_x: usize, first_y: usize) -> Case {
    let case = Case::new(CopyRows::SIGNATURE, format!("{rows} x {cols}"), Work::Bytes(8.0 * (rows * cols) as f64));
    case.input("x", &[first_x + rows, cols]).output("y", &[first_y + rows + 1, cols]).run(move |device, tensors| {
        let [x, y] = tensors else { unreachable!() };
        let [rows, cols, first_x, first_y] = [rows, cols, first_x, first_y].map(|size| size as u32);
        device.run(CopyRows { x, y, rows, cols, first_x, first_y });
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A copy is exact.
    let cases = [(1, 4, 0, 3), (37, 124, 5, 0), (130, 576, 70, 70)];
    cases.map(|(rows, cols, first_x, first_y)| case(rows, cols, first_x, first_y).within(0.0)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(256, 3072, 256, 0)]
}
