use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::Sgd;

/// One step over `count` weights.
fn case(count: usize) -> Case {
    Case::new(Sgd::SIGNATURE, format!("{count}"), Work::Bytes(16.0 * count as f64))
        .output("gradient", &[count])
        .output("weight", &[count])
        .run(move |device, tensors| {
            let [gradient, weight] = tensors else { unreachable!() };
            device.run(Sgd { gradient, weight, count: count as u32, step_size: 0.3 });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A product and a sum.
    [1, 37 * 123, 100_000].map(|count| case(count).within(1e-6)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1 << 22)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(1 << 25))
}
