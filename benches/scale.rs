use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::Scale;

/// `count` values scaled.
fn case(count: usize) -> Case {
    Case::new(Scale::SIGNATURE, format!("{count}"), Work::Bytes(8.0 * count as f64)).output("x", &[count]).run(
        move |device, tensors| {
            let [x] = tensors else { unreachable!() };
            device.run(Scale { x, count: count as u32, factor: 0.3 });
        },
    )
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // One product, rounded once.
    [1, 37 * 123, 100_000].map(|count| case(count).within(1e-7)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1 << 22)]
}
