use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::Dpo;

/// DPO over pairs of sequences of these lengths, the chosen one of a pair before the rejected one.
fn case(lengths: &[usize], beta: f32) -> Case {
    let starts = super::case::starts(lengths);
    let positions = lengths.iter().sum::<usize>();
    let sequences = lengths.len();
    let shape = format!("{}, beta {beta}", super::case::lengths_label(lengths));
    Case::new(Dpo::SIGNATURE, shape, Work::Bytes(24.0 * positions as f64))
        .u32s("starts", starts)
        .input("rollout", &[positions, 4])
        .input("logp", &[positions])
        .output("dlogp", &[positions])
        .output("statistics", &[sequences + 2])
        .run(move |device, tensors| {
            let [starts, rollout, logp, dlogp, statistics] = tensors else { unreachable!() };
            let pairs = sequences as u32 / 2;
            device.run(Dpo {
                starts,
                rollout,
                logp,
                dlogp,
                statistics,
                pairs,
                first_sequence: 1,
                batch_pairs: 3 * pairs,
                beta,
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let ordinary: [&[usize]; 3] = [&[1, 1], &[37, 1, 1, 123], &[512, 513, 511, 2]];
    // Both signs of margins in the hundreds, where exp of one of them overflows f32. A gradient down there is
    // exp(-margin), whose relative error is the margin's absolute one: a few roundings of hundreds, 3e-5 each.
    let steep = case(&[300, 1, 1, 300, 77, 78], 50.0).within(5e-4);
    ordinary.map(|lengths| case(lengths, 0.1)).into_iter().chain([steep]).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[512; 512], 0.1)]
}
