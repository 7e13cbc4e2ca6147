use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{KTO_STATISTICS, Kto};

/// KTO over sequences of these lengths.
fn case(lengths: &[usize], beta: f32) -> Case {
    let starts = super::case::starts(lengths);
    let positions = lengths.iter().sum::<usize>();
    let sequences = lengths.len();
    let shape = format!("{}, beta {beta}", super::case::lengths_label(lengths));
    Case::new(Kto::SIGNATURE, shape, Work::Bytes(24.0 * positions as f64))
        .u32s("starts", starts)
        .input("rollout", &[positions, 4])
        .input("logp", &[positions])
        .output("dlogp", &[positions])
        .output("statistics", &[sequences + 2, KTO_STATISTICS])
        .run(move |device, tensors| {
            let [starts, rollout, logp, dlogp, statistics] = tensors else { unreachable!() };
            device.run(Kto {
                starts,
                rollout,
                logp,
                dlogp,
                statistics,
                sequences: sequences as u32,
                first_sequence: 1,
                batch_sequences: 2 * sequences as u32,
                beta,
                z: 0.25,
                desirable_weight: 1.25,
                undesirable_weight: 0.75,
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let ordinary: [&[usize]; 3] = [&[1], &[37, 1, 123, 5, 9, 2, 8], &[512, 513, 511, 2]];
    // Where the utility is flat: exp of the log-ratio overflows f32 on one side. A gradient down there is exp(-u), whose
    // relative error is u's absolute one: a few roundings of a u in the hundreds, 3e-5 each.
    let flat = case(&[300, 1, 2, 300, 77, 78], 50.0).within(5e-4);
    ordinary.map(|lengths| case(lengths, 0.1)).into_iter().chain([flat]).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[512; 512], 0.1)]
}
