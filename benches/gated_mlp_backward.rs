use super::case::{Case, Work};
use crate::device::Call;
use crate::device::DType;
use crate::kernels::{Activation, GatedMlpBackward};

/// The gate's gradients over `count` values between `-range` and `range`.
pub fn case(count: usize, activation: Activation, range: f64) -> Case {
    let work = Work::Bytes(24.0 * count as f64);
    let mut case = Case::new(GatedMlpBackward::SIGNATURE, format!("{count}, {activation:?}, +-{range}"), work);
    let gate = case.uniform(count).into_iter().map(|x| f64::from((x * range) as f32)).collect();
    case.floats("gate", &[count], DType::Real, gate)
        .input("up", &[count])
        .input("dact", &[count])
        .output("dgate", &[count])
        .output("dup", &[count])
        .output("act", &[count])
        .run(move |device, tensors| {
            let [gate, up, dact, dgate, dup, act] = tensors else { unreachable!() };
            let (count, activation) = (count as u32, activation.index());
            device.run(GatedMlpBackward { gate, up, dact, dgate, dup, act, count, activation });
        })
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024 * 1536, Activation::Silu, 5.0)]
}
