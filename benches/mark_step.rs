use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::MarkStep;

/// The mark of a step.
pub fn case(step: u32) -> Case {
    Case::new(MarkStep::SIGNATURE, format!("{step}"), Work::Bytes(4.0)).u32s("marker", vec![7]).in_place().run(
        move |device, tensors| {
            let [marker] = tensors else { unreachable!() };
            device.run(MarkStep { marker, step });
        },
    )
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1)]
}
