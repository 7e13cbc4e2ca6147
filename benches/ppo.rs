use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::{PPO_STATISTICS, Ppo};

/// How far the policy and the values have moved since the rollouts: with both ranges at 0.2, a `spread` of 0.1 clips
/// nothing, one of 0.6 about half of the tokens, both ways.
pub fn case(lengths: &[usize], spread: f64) -> Case {
    let starts = super::case::starts(lengths);
    let positions = lengths.iter().sum::<usize>();
    let sequences = lengths.len();
    let shape = format!("{}, +-{spread}", super::case::lengths_label(lengths));
    let mut case = Case::new(Ppo::SIGNATURE, shape, Work::Bytes(32.0 * positions as f64));
    let f32_of = |x: f64| f64::from(x as f32);
    let logp: Vec<f64> = case.uniform(positions).into_iter().map(|x| f32_of(x - 1.0)).collect();
    let value = case.uniform(positions);
    let noise = case.uniform(4 * positions);
    let rollout = |t: usize| {
        let noise = &noise[4 * t..4 * t + 4];
        [f32_of(logp[t] + spread * noise[0]), noise[1], noise[2], f32_of(value[t] + spread * noise[3])]
    };
    let rollout = (0..positions).flat_map(rollout).collect();
    case.u32s("starts", starts)
        .floats("rollout", &[positions, 4], DType::Real, rollout)
        .floats("logp", &[positions], DType::Real, logp)
        .floats("value", &[positions], DType::Real, value)
        .output("dlogp", &[positions])
        .output("dvalue", &[positions])
        .output("statistics", &[sequences + 2, PPO_STATISTICS])
        .run(move |device, tensors| {
            let [starts, rollout, logp, value, dlogp, dvalue, statistics] = tensors else { unreachable!() };
            device.run(Ppo {
                starts,
                rollout,
                logp,
                value,
                dlogp,
                dvalue,
                statistics,
                sequences: sequences as u32,
                first_sequence: 1,
                batch_tokens: 2 * positions as u32,
                clip_range: 0.2,
                value_clip_range: 0.2,
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let lengths: [&[usize]; 3] = [&[1], &[37, 1, 123], &[512, 63, 64, 65, 2]];
    let clipping = [0.0, 0.1, 0.6].into_iter().flat_map(|spread| lengths.map(|lengths| case(lengths, spread)));
    // The values' own clipping ends in f32 where their squares do; ratios are held at exp(20), which the sums over a
    // sequence can bear.
    let far_off = case(&[37, 1, 123], 300.0);
    clipping.chain([far_off]).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[512; 512], 0.6)]
}
