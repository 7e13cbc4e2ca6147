use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{BLOCK_ROWS, ValueHeadBackward};

/// The value head's gradients for `rows` hidden states of `cols`.
fn case(rows: usize, cols: usize) -> Case {
    Case::new(ValueHeadBackward::SIGNATURE, format!("{rows} x {cols}"), Work::Bytes(8.0 * (rows * cols) as f64))
        .input("h", &[rows, cols])
        .input("weight", &[cols])
        .input("dvalue", &[rows])
        .output("dh", &[rows, cols])
        .output("partial", &[rows.div_ceil(BLOCK_ROWS), cols])
        .run(move |device, tensors| {
            let [h, weight, dvalue, dh, partial] = tensors else { unreachable!() };
            let (rows, cols, block_rows) = (rows as u32, cols as u32, BLOCK_ROWS as u32);
            device.run(ValueHeadBackward { h, weight, dvalue, dh, partial, rows, cols, block_rows });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    [(37, 123), (1, 1), (130, 576), (64, 4)].map(|(rows, cols)| case(rows, cols)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576)]
}
