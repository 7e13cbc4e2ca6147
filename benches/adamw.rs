use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::AdamW;

/// One step over weights of `count` and `count2`.
fn case(count: usize, count2: usize) -> Case {
    let shape = format!("{count} + {count2}");
    let mut case = Case::new(AdamW::SIGNATURE, shape, Work::Bytes(32.0 * (count + count2) as f64));
    let [v, v2] = [count, count2].map(|count| case.uniform(count).into_iter().map(f64::abs).collect());
    case.output("gradient", &[count])
        .output("weight", &[count])
        .output("m", &[count])
        .floats("v", &[count], DType::Real, v)
        .in_place()
        .output("gradient2", &[count2])
        .output("weight2", &[count2])
        .output("m2", &[count2])
        .floats("v2", &[count2], DType::Real, v2)
        .in_place()
        .run(move |device, tensors| {
            let [gradient, weight, m, v, gradient2, weight2, m2, v2] = tensors else { unreachable!() };
            device.run(AdamW {
                gradient,
                weight,
                m,
                v,
                gradient2,
                weight2,
                m2,
                v2,
                count: count as u32,
                count2: count2 as u32,
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
    [(1, 0), (5, 3), (37 * 123, 1), (257, 100_000)].map(|(count, count2)| case(count, count2)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1 << 20, 1 << 20)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(1 << 23, 1 << 23))
}
