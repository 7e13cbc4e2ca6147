use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::AdamW;

/// One step over `count` weights.
fn case(count: usize) -> Case {
    let mut case = Case::new(AdamW::SIGNATURE, format!("{count}"), Work::Bytes(28.0 * count as f64));
    let v = case.uniform(count).into_iter().map(f64::abs).collect();
    case.input("gradient", &[count])
        .output("weight", &[count])
        .output("m", &[count])
        .floats("v", &[count], DType::Real, v)
        .in_place()
        .run(move |device, tensors| {
            let [gradient, weight, m, v] = tensors else { unreachable!() };
            device.run(AdamW {
                gradient,
                weight,
                m,
                v,
                count: count as u32,
                gradient_scale: 0.7,
                step_size: 3e-3,
                decay: 1e-4,
                beta1: 0.9,
                beta2: 0.999,
                inverse_sqrt_correction2: 1.3,
                epsilon: 1e-8,
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    [1, 37 * 123, 100_000].map(case).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1 << 21)]
}
