use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::MarkStep;

/// The mark of a step.
fn case(step: u32) -> Case {
    Case::new(MarkStep::SIGNATURE, format!("{step}"), Work::Bytes(4.0)).u32s("marker", vec![7]).in_place().run(
        move |device, tensors| {
            let [marker] = tensors else { unreachable!() };
            device.run(MarkStep { marker, step });
        },
    )
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A whole number is exact.
    [0, 1, 123_456].map(|step| case(step).within(0.0)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1)]
}
