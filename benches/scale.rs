use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::Scale;

/// `count` values scaled.
pub fn case(count: usize) -> Case {
    Case::new(Scale::SIGNATURE, format!("{count}"), Work::Bytes(8.0 * count as f64)).output("x", &[count]).run(
        move |device, tensors| {
            let [x] = tensors else { unreachable!() };
            device.run(Scale { x, count: count as u32, factor: 0.3 });
        },
    )
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1 << 22)]
}
