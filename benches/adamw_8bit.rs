use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::{AdamW8bit, dynamic_maps};

/// One step over `count` weights. Codes are held in `kernels-tests/adamw_8bit.rs`, one by one: a value in the middle between two
/// may go either way. What comes of them here is the weights, which do not hang on the rounding.
fn case(count: usize) -> Case {
    let mut case = Case::new(AdamW8bit::SIGNATURE, format!("{count}"), Work::Bytes(20.0 * count as f64));
    let maps = dynamic_maps().as_flattened().iter().map(|&value| f64::from(value)).collect();
    let (words, blocks) = (count.div_ceil(4), count.div_ceil(256));
    let [m, v] = [(); 2].map(|()| case.indices(words, u32::MAX as usize));
    let [m_absmax, v_absmax] = [(); 2].map(|()| case.uniform(blocks).into_iter().map(f64::abs).collect());
    case.floats("maps", &[2, 256], DType::Real, maps)
        .output("gradient", &[count])
        .output("weight", &[count])
        .u32s("m", m)
        .floats("m_absmax", &[blocks], DType::Real, m_absmax)
        .in_place()
        .u32s("v", v)
        .floats("v_absmax", &[blocks], DType::Real, v_absmax)
        .in_place()
        .run(move |device, tensors| {
            let [maps, gradient, weight, m, m_absmax, v, v_absmax] = tensors else { unreachable!() };
            device.run(AdamW8bit {
                maps,
                gradient,
                weight,
                m,
                m_absmax,
                v,
                v_absmax,
                count: count as u32,
                gradient_scale: 0.7,
                step_size: 3e-3,
                decay: 1e-4,
                beta1: 0.9,
                beta2: 0.999,
                rest1: 0.1,
                rest2: 0.001,
                inverse_sqrt_correction2: 1.3,
                epsilon: 1e-8,
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A part of a word, of a block, whole ones, and more than one workgroup.
    [1, 37 * 123, 4096, 100_000].map(case).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1 << 21)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(1 << 24))
}
