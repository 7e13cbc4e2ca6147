use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::Sft;

/// The gradient of `positions` log-probs.
fn case(positions: usize) -> Case {
    Case::new(Sft::SIGNATURE, format!("{positions}"), Work::Bytes(4.0 * positions as f64))
        .output("dlogp", &[positions])
        .run(move |device, tensors| {
            let [dlogp] = tensors else { unreachable!() };
            device.run(Sft { dlogp, positions: positions as u32, batch_tokens: 3 * positions as u32 });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // One quotient.
    [1, 37, 1000].map(|positions| case(positions).within(1e-6)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(512 * 512)]
}
