use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::{GRPO_STATISTICS, Grpo};

/// GRPO over sequences of these lengths; how far the policy has moved from the reference and from the policy that wrote them.
fn case(lengths: &[usize], spread: f64) -> Case {
    let starts = super::case::starts(lengths);
    let positions = lengths.iter().sum::<usize>();
    let sequences = lengths.len();
    let shape = format!("{}, +-{spread}", super::case::lengths_label(lengths));
    let mut case = Case::new(Grpo::SIGNATURE, shape, Work::Bytes(24.0 * positions as f64));
    let f32_of = |x: f64| f64::from(x as f32);
    let logp: Vec<f64> = case.uniform(positions).into_iter().map(|x| f32_of(x - 1.0)).collect();
    let noise = case.uniform(4 * positions);
    let rollout = |t: usize| {
        let noise = &noise[4 * t..4 * t + 4];
        [f32_of(logp[t] + spread * noise[0]), f32_of(logp[t] + spread * noise[1]), noise[2], noise[3]]
    };
    let rollout = (0..positions).flat_map(rollout).collect();
    case.u32s("starts", starts)
        .floats("rollout", &[positions, 4], DType::Real, rollout)
        .floats("logp", &[positions], DType::Real, logp)
        .output("dlogp", &[positions])
        .output("statistics", &[sequences + 2, GRPO_STATISTICS])
        .run(move |device, tensors| {
            let [starts, rollout, logp, dlogp, statistics] = tensors else { unreachable!() };
            device.run(Grpo {
                starts,
                rollout,
                logp,
                dlogp,
                statistics,
                sequences: sequences as u32,
                first_sequence: 1,
                batch_sequences: 2 * sequences as u32,
                beta: 0.04,
                clip_range: 0.2,
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let lengths: [&[usize]; 3] = [&[1], &[37, 1, 123], &[512, 63, 64, 65, 2]];
    [0.1, 0.6].into_iter().flat_map(|spread| lengths.map(|lengths| case(lengths, spread))).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[512; 512], 0.6)]
}
