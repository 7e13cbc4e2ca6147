use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::{Activation, GatedMlpBackward};

/// The gate's gradients over `count` values between `-range` and `range`.
fn case(count: usize, activation: Activation, range: f64) -> Case {
    let work = Work::Bytes(24.0 * count as f64);
    let mut case = Case::new(GatedMlpBackward::SIGNATURE, format!("{count}, {activation:?}, +-{range}"), work);
    let gate = case.uniform(count).into_iter().map(|x| f64::from((x * range) as f32)).collect();
    let case = case.floats("gate", &[count], DType::Real, gate).in_place();
    case.input("up", &[count]).in_place().input("dact", &[count]).in_place().run(move |device, tensors| {
        let [gate, up, dact] = tensors else { unreachable!() };
        let (count, activation) = (count as u32, activation.index());
        device.run(GatedMlpBackward { gate, up, dact, count, activation });
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let ranges = [(37 * 123, 1.0), (1, 1.0), (5000, 20.0), (1000, 1e4), (1000, 1e-4)];
    let of_activation = |activation| ranges.map(|(count, range)| case(count, activation, range));
    [Activation::Silu, Activation::GeluTanh].into_iter().flat_map(of_activation).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024 * 1536, Activation::Silu, 5.0)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(1024 * 18944, Activation::Silu, 5.0))
}
