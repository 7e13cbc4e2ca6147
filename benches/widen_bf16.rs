use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::WidenBf16;

/// `count` values widened; among them both zeros and very small and large values.
fn case(count: usize) -> Case {
    let mut case = Case::new(WidenBf16::SIGNATURE, format!("{count}"), Work::Bytes(6.0 * count as f64));
    let special = [0.0, -0.0, 1e-30, -1e30, 3.0e38];
    let values = case.uniform(count).into_iter().enumerate();
    let values = values.map(|(i, value)| special.get(i % 50).copied().unwrap_or(value)).collect();
    case.floats("x", &[count], DType::Bf16, values).output("y", &[count]).run(move |device, tensors| {
        let [x, y] = tensors else { unreachable!() };
        device.run(WidenBf16 { x, y, count: count as u32 });
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // Every bf16 is an f32.
    [1, 37 * 123, 100_000].map(|count| case(count).within(0.0)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1 << 22)]
}
