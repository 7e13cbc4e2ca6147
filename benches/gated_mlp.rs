use super::case::{Case, Work};
use crate::device::Call;
use crate::device::DType;
use crate::kernels::{Activation, GatedMlp};

/// The gate over `count` values between `-range` and `range`.
pub fn case(count: usize, activation: Activation, range: f64) -> Case {
    let work = Work::Bytes(12.0 * count as f64);
    let mut case = Case::new(GatedMlp::SIGNATURE, format!("{count}, {activation:?}, +-{range}"), work);
    let gate = case.uniform(count).into_iter().map(|x| f64::from((x * range) as f32)).collect();
    case.floats("gate", &[count], DType::Real, gate).input("up", &[count]).output("act", &[count]).run(
        move |device, tensors| {
            let [gate, up, act] = tensors else { unreachable!() };
            device.run(GatedMlp { gate, up, act, count: count as u32, activation: activation.index() });
        },
    )
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024 * 1536, Activation::Silu, 5.0)]
}
