use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::{DQO_STATISTICS, Dqo};

/// The switches of a case.
#[derive(Clone, Copy)]
struct Switches {
    lambda: f32,
    policy_is: bool,
    value_is: bool,
    paper_tail: bool,
    td_target: bool,
    mean_reduction: bool,
}

impl Switches {
    /// The lambda, and the switches that are not the paper's.
    fn label(&self) -> String {
        let others = [
            (!self.policy_is, "no policy IS"),
            (!self.value_is, "no value IS"),
            (self.paper_tail, "paper tail"),
            (self.td_target, "td"),
            (self.mean_reduction, "mean"),
        ];
        let set = others.iter().filter(|(set, _)| *set).map(|(_, name)| format!(", {name}"));
        format!("lambda {}{}", self.lambda, set.collect::<String>())
    }
}

/// The paper's.
const DEFAULT: Switches = Switches {
    lambda: 1.0,
    policy_is: true,
    value_is: true,
    paper_tail: false,
    td_target: false,
    mean_reduction: false,
};

/// DQO over sequences of these lengths.
fn case(lengths: &[usize], switches: Switches) -> Case {
    let starts = super::case::starts(lengths);
    let positions = lengths.iter().sum::<usize>();
    let sequences = lengths.len();
    let shape = format!("{}, {}", super::case::lengths_label(lengths), switches.label());
    let mut case = Case::new(Dqo::SIGNATURE, shape, Work::Bytes(32.0 * positions as f64));
    let f32_of = |x: f64| f64::from(x as f32);
    // Log-probs between -2 and 0; the behaviour's close by, so that w is neither 0 nor always clipped.
    let logp: Vec<f64> = case.uniform(positions).into_iter().map(|x| f32_of(x - 1.0)).collect();
    let noise = case.uniform(3 * positions);
    let rollout = |t: usize| {
        let spread = 2.0 / (positions as f64).sqrt();
        [
            f32_of(logp[t] + 0.3 * noise[3 * t]),
            f32_of(logp[t] + spread * noise[3 * t + 1]),
            f32_of(noise[3 * t + 2]),
            // Whether the response goes on is read at its last action: every other one does.
            (t % 2) as f64,
        ]
    };
    let rollout = (0..positions).flat_map(rollout).collect();
    case.u32s("starts", starts)
        .floats("rollout", &[positions, 4], DType::Real, rollout)
        .input("bootstrap", &[sequences])
        .floats("logp", &[positions], DType::Real, logp)
        .input("value", &[positions])
        .output("dlogp", &[positions])
        .output("dvalue", &[positions])
        .output("statistics", &[sequences + 2, DQO_STATISTICS])
        .run(move |device, tensors| {
            let [starts, rollout, bootstrap, logp, value, dlogp, dvalue, statistics] = tensors else { unreachable!() };
            device.run(Dqo {
                starts,
                rollout,
                bootstrap,
                logp,
                value,
                dlogp,
                dvalue,
                statistics,
                sequences: sequences as u32,
                first_sequence: 1,
                batch_sequences: 2 * sequences as u32,
                beta: 0.03,
                lambda: switches.lambda,
                policy_is: switches.policy_is.into(),
                value_is: switches.value_is.into(),
                paper_tail: switches.paper_tail.into(),
                td_target: switches.td_target.into(),
                mean_reduction: switches.mean_reduction.into(),
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let every_switch = (0..32).flat_map(|bits| {
        let is_set = move |bit: u32| bits & (1 << bit) != 0;
        [1.0, 0.95].map(|lambda| Switches {
            lambda,
            policy_is: is_set(0),
            value_is: is_set(1),
            paper_tail: is_set(2),
            td_target: is_set(3),
            mean_reduction: is_set(4),
        })
    });
    let long_and_short: [&[usize]; 3] = [&[1], &[512, 513, 511, 2], &[10_000]];
    let long_and_short = long_and_short
        .into_iter()
        .flat_map(|lengths| [DEFAULT, Switches { lambda: 0.95, ..DEFAULT }].map(|switches| case(lengths, switches)));
    every_switch.map(|switches| case(&[37, 1, 123], switches)).chain(long_and_short).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[512; 512], DEFAULT)]
}
