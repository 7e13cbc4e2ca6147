use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::ValueHead;

/// The values of `rows` hidden states of `cols`.
fn case(rows: usize, cols: usize) -> Case {
    Case::new(ValueHead::SIGNATURE, format!("{rows} x {cols}"), Work::Bytes(4.0 * (rows * cols) as f64))
        .input("h", &[rows, cols])
        .input("weight", &[cols])
        .input("bias", &[1])
        .output("value", &[rows])
        .run(move |device, tensors| {
            let [h, weight, bias, value] = tensors else { unreachable!() };
            device.run(ValueHead { h, weight, bias, value, rows: rows as u32, cols: cols as u32 });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    [(37, 123), (1, 1), (130, 576), (3, 4096)].map(|(rows, cols)| case(rows, cols)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 576)]
}
