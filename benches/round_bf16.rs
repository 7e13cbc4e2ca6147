use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::RoundBf16;

/// `count` values rounded; among them ties, both signs, zero and very small and large values.
fn case(count: usize) -> Case {
    let mut case = Case::new(RoundBf16::SIGNATURE, format!("{count}"), Work::Bytes(6.0 * count as f64));
    let special = [0.0, -0.0, 1.00390625, 1.01171875, -1.00390625, 1e-30, -1e30, 3.0e38];
    let values = case.uniform(count).into_iter().enumerate();
    let values = values.map(|(i, value)| special.get(i % 50).copied().unwrap_or(value)).map(|x| f64::from(x as f32));
    let values = values.collect();
    let zeros = vec![0.0; count];
    case.floats("x", &[count], DType::Real, values).floats("y", &[count], DType::Bf16, zeros).in_place().run(
        move |device, tensors| {
            let [x, y] = tensors else { unreachable!() };
            device.run(RoundBf16 { x, y, count: count as u32 });
        },
    )
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // What is representable is exact.
    [1, 37 * 123, 100_000].map(|count| case(count).within(0.0)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1 << 22)]
}
