use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::Sft;

/// The gradient of `positions` log-probs.
pub fn case(positions: usize) -> Case {
    Case::new(Sft::SIGNATURE, format!("{positions}"), Work::Bytes(4.0 * positions as f64))
        .output("dlogp", &[positions])
        .run(move |device, tensors| {
            let [dlogp] = tensors else { unreachable!() };
            device.run(Sft { dlogp, positions: positions as u32, batch_tokens: 3 * positions as u32 });
        })
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(512 * 512)]
}
