use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{KTO_STATISTICS, Kto};

/// KTO over sequences of these lengths.
pub fn case(lengths: &[usize], beta: f32) -> Case {
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

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[512; 512], 0.1)]
}
