//! The twins' backward passes against finite differences, in f64: a whole tiny model of every family, and the methods.

use std::path::Path;

use dqo_wgpu::data::{Capacity, DropoutDraw, Example, Examples, RowFile, Sequence, Tokenizer};
use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::model::{Adapter, Checkpoint, ModelConfig, Parameter, WeightType};
use dqo_wgpu::objective::{A2po, Dpo, Dqo, Dro, Grpo, Kto, Objective, Ppo, Sft, StepTotals};
use dqo_wgpu::train::{Session, Source, Sources, TrainConfig, TrainRoom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::golden;

/// A session over all rows of a golden set, on the f64 CPU device.
struct Setup {
    session: Session,
    objective: Box<dyn Objective>,
    totals: StepTotals,
    positions: usize,
}

fn setup(set: &Path, objective: Box<dyn Objective>) -> Setup {
    let (policy_dir, value_dir) = (set.join("policy"), set.join("value"));
    let (policy, value) = (ModelConfig::read(&policy_dir).unwrap(), ModelConfig::read(&value_dir).unwrap());
    let (policy_weights, value_weights) =
        (Checkpoint::open(&policy_dir).unwrap(), Checkpoint::open(&value_dir).unwrap());
    let examples = examples(&policy_dir, &policy, &set.join("rows.jsonl"));
    let sources = Sources {
        policy: Source { config: &policy, checkpoint: Some(&policy_weights), adapter: None, base: None },
        value: Source { config: &value, checkpoint: Some(&value_weights), adapter: None, base: None },
    };
    begin(sources, &examples, objective, None)
}

/// A policy of adapters that a training step draws dropout for.
fn setup_with_dropout(set: &Path, p: f64, objective: Box<dyn Objective>) -> Setup {
    let model = set.join("model");
    let config = ModelConfig::read(&model).unwrap();
    let weights = Checkpoint::open(&model).unwrap();
    let mut adapter = Adapter::open(&set.join("policy")).unwrap();
    adapter.config.dropout = p;
    let source = || Source { config: &config, checkpoint: Some(&weights), adapter: Some(&adapter), base: None };
    let examples = examples(&model, &config, &set.join("rows.jsonl"));
    let sources = Sources { policy: source(), value: source() };
    begin(sources, &examples, objective, Some(DropoutDraw { seed: 42, step: 3 }))
}

fn examples(model: &Path, config: &ModelConfig, rows: &Path) -> Vec<Example> {
    let tokenizer = Tokenizer::read(model, &config.eos_token_ids).unwrap();
    let file = RowFile::read(rows).unwrap();
    Examples::build(&file, &tokenizer, config.limits(), 1000).unwrap().examples
}

fn begin(
    sources: Sources,
    examples: &[Example],
    mut objective: Box<dyn Objective>,
    draw: Option<DropoutDraw>,
) -> Setup {
    let sequence = |example| Sequence { example, bootstrapped: false };
    let sequences: Vec<Sequence> = examples.iter().map(sequence).collect();

    let mut config = TrainConfig::default();
    config.model.weights.dtype = WeightType::F64;
    config.steps.batch_size = examples.len();
    let device = Device::cpu(Precision::F64);
    let capacity = Capacity::of(&sequences);
    let mut session =
        Session::new(&device, sources, &*objective, &config, TrainRoom { capacity, adds_up: false }, None).unwrap();
    match draw {
        Some(draw) => session.batch.load_dropping(&sequences, draw).unwrap(),
        None => session.batch.load(&sequences).unwrap(),
    }
    session.rollout.write(0, rollout(examples).into_iter()).unwrap();
    let positions = capacity.positions;
    let count = examples.len();
    let rows = count / objective.trains_on().sequences_per_row();
    let totals = StepTotals { rows, sequences: count, tokens: positions };
    objective.begin_step(&[Z]);
    Setup { session, objective, totals, positions }
}

/// A made-up reference and behaviour, and the rows' rewards.
fn rollout(examples: &[Example]) -> Vec<f64> {
    let of = |example: &Example| {
        let count = example.completion_ids.len();
        let reward = example.reward.unwrap_or(0.0);
        (0..count).flat_map(move |t| [-3.0, -3.5, if t + 1 == count { reward } else { 0.1 }, 0.0]).collect::<Vec<_>>()
    };
    examples.iter().flat_map(of).collect()
}

impl Setup {
    fn forward(&mut self) -> (Vec<f64>, Vec<f64>) {
        self.session.forward();
        let Session { policy, value, .. } = &self.session;
        let logp = policy.activations.head.logp.read(self.positions).unwrap();
        let values = value.as_ref().map(|value| value.activations.value.read(self.positions).unwrap());
        (logp, values.unwrap_or_default())
    }

    /// The method's gradients at the seam, then the backward passes.
    fn backward(&mut self) -> (Vec<f64>, Vec<f64>) {
        self.objective.gradients(self.session.seam(0, self.totals)).unwrap();
        self.session.backward(&mut |_| ());
        let Session { dlogp, value, .. } = &self.session;
        let dvalue = value.as_ref().map(|value| value.dvalue.read(self.positions).unwrap());
        (dlogp.read(self.positions).unwrap(), dvalue.unwrap_or_default())
    }

    fn parameters(&mut self) -> Vec<&mut Parameter> {
        let value = self.session.value.iter_mut().flat_map(|value| value.network.parameters_mut());
        let all = self.session.policy.network.parameters_mut().chain(value);
        all.filter(|parameter| parameter.is_trained()).collect()
    }
}

/// Holds every weight tensor's gradient, along a random direction, against the central difference of `loss`.
fn check(setup: &mut Setup, label: &str, loss: impl Fn(&[f64], &[f64]) -> f64) {
    check_within(setup, label, 1e-6, loss);
}

/// The same to a tolerance.
fn check_within(setup: &mut Setup, label: &str, tolerance: f64, loss: impl Fn(&[f64], &[f64]) -> f64) {
    const H: f64 = 1e-5;
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let count = setup.parameters().len();
    let mut slopes = Vec::new();
    for index in 0..count {
        let read = |setup: &mut Setup| {
            let parameter = &mut setup.parameters()[index];
            let shard = &parameter.shards()[0];
            let weights = shard.weight.read(parameter.len()).unwrap();
            let gradient = shard.gradient.as_ref().unwrap().read(parameter.len()).unwrap();
            (parameter.name().to_owned(), weights, gradient)
        };
        let (name, weights, gradient) = read(setup);
        let direction: Vec<f64> = weights.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut at = |step: f64| {
            let moved: Vec<f64> = weights.iter().zip(&direction).map(|(w, d)| w + step * d).collect();
            setup.parameters()[index].shards_mut()[0].parts_mut().0.write(0, moved.into_iter()).unwrap();
            let (logp, value) = setup.forward();
            loss(&logp, &value)
        };
        let difference = (at(H) - at(-H)) / (2.0 * H);
        at(0.0);
        let slope: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        slopes.push((name, slope, difference));
    }
    // A slope that is 0 but for rounding (a bias on the keys) is held against the largest one.
    let largest = slopes.iter().map(|(_, slope, _)| slope.abs()).fold(0.0, f64::max);
    for (name, slope, difference) in slopes {
        let off = (slope - difference).abs() / slope.abs().max(1e-3 * largest);
        assert!(
            off <= tolerance,
            "{label}: {name}: {slope} by the backward pass, {difference} by differences ({off:.1e})"
        );
    }
}

/// A model of every family, and of what turns up in backward passes alone: windows, layers without rotation, growing rotations.
const FAMILIES: [&str; 9] = ["llama", "llama3", "mistral", "qwen2", "qwen3", "gemma", "smollm3", "gemma3", "yarn"];

#[test]
fn sft_is_its_finite_differences() {
    for family in FAMILIES {
        let mut setup = setup(&golden("dqo").join(family), Box::new(Sft::default()));
        setup.forward();
        setup.backward();
        check(&mut setup, family, |logp, _| -logp.iter().sum::<f64>() / logp.len() as f64);
    }
}

/// What travels while a backward pass goes on must not change behind it.
#[test]
fn gradients_are_whole_when_they_are_heard_of_and_come_in_order() {
    let gradients = |parameters: &mut dyn Iterator<Item = &mut Parameter>| -> Vec<(String, Vec<f64>)> {
        let trained = parameters.filter(|parameter| parameter.is_trained());
        let gradient = |parameter: &Parameter| parameter.shards()[0].gradient.as_ref().unwrap().read(parameter.len());
        trained.map(|parameter| (parameter.name().to_owned(), gradient(parameter).unwrap())).collect()
    };
    let adapters = setup_with_dropout(&golden("lora/llama"), 0.3, Box::new(Dqo::default()));
    let whole = FAMILIES.map(|family| setup(&golden("dqo").join(family), Box::new(Dqo::default())));
    for mut setup in whole.into_iter().chain([adapters]) {
        setup.forward();
        setup.objective.gradients(setup.session.seam(0, setup.totals)).unwrap();
        let mut heard = Vec::new();
        setup.session.backward(&mut |finished| heard.extend(gradients(finished)));
        let Session { policy, value, .. } = &mut setup.session;
        let value = value.iter_mut().flat_map(|value| value.network.parameters_as_finished_mut());
        let in_order = gradients(&mut policy.network.parameters_as_finished_mut().chain(value));
        assert_eq!(heard.len(), setup.parameters().len());
        assert!(heard == in_order);
    }
}

#[test]
fn sft_of_adapters_with_dropout_is_its_finite_differences() {
    let set = golden("lora/llama");
    let loss = |logp: &[f64], _: &[f64]| -logp.iter().sum::<f64>() / logp.len() as f64;
    let mut seen = Vec::new();
    for p in [0.0, 0.3] {
        let mut setup = setup_with_dropout(&set, p, Box::new(Sft::default()));
        seen.push(setup.forward().0);
        setup.backward();
        check(&mut setup, &format!("dropout {p}"), loss);
    }
    assert_ne!(seen[0], seen[1], "something was left out");
}

#[test]
fn ppo_is_its_finite_differences() {
    for family in FAMILIES {
        let mut setup = setup(&golden("dqo").join(family), Box::new(Ppo::default()));
        let (logp, value) = setup.forward();
        // Where the networks were, and what was estimated: some tokens are clipped, either way, and none is near the edge.
        let moved = [-0.5, -0.1, 0.1, 0.5];
        let known = |t: usize| {
            let (advantage, error) = ([0.8, -0.6][t / 4 % 2], [0.9, -0.7][t / 8 % 2]);
            [logp[t] - moved[t % 4], advantage, value[t] - error, value[t] - moved[(t + 1) % 4]]
        };
        let rollout: Vec<[f64; 4]> = (0..logp.len()).map(known).collect();
        setup.session.rollout.write(0, rollout.as_flattened().iter().copied()).unwrap();
        setup.backward();
        let range = f64::from(0.2f32);
        check(&mut setup, family, |logp, value| {
            let policy = |t: usize| {
                let [logp_old, advantage, ..] = rollout[t];
                let ratio = (logp[t] - logp_old).exp();
                f64::max(-advantage * ratio, -advantage * ratio.clamp(1.0 - range, 1.0 + range))
            };
            let values = |t: usize| {
                let [_, _, target, value_old] = rollout[t];
                let near = value[t].clamp(value_old - range, value_old + range);
                f64::max((value[t] - target).powi(2), (near - target).powi(2))
            };
            (0..logp.len()).map(|t| policy(t) + 0.5 * values(t)).sum::<f64>() / logp.len() as f64
        });
    }
}

#[test]
fn dqo_is_its_finite_differences() {
    for family in FAMILIES {
        let mut setup = setup(&golden("dqo").join(family), Box::new(Dqo { beta: BETA, lambda: 0.9, ..Dqo::default() }));
        let (logp, value) = setup.forward();
        let (dlogp, dvalue) = setup.backward();
        // The targets are constants for the gradient. They follow from the gradients: with s = 2 w / B,
        // dlogp = s beta (beta logp - target) and dvalue = -s (G - V).
        let beta = BETA;
        let starts = setup.session.batch.response_starts.read(setup.totals.sequences + 1).unwrap();
        let statistics = setup.session.statistics.read(setup.session.statistics.len()).unwrap();
        let mut scale = Vec::new();
        for (sequence, range) in starts.windows(2).enumerate() {
            let w = statistics[sequence * dqo_wgpu::kernels::DQO_STATISTICS];
            scale.extend(vec![2.0 * w / setup.totals.sequences as f64; (range[1] - range[0]) as usize]);
        }
        let targets: Vec<f64> = (0..logp.len()).map(|t| beta * logp[t] - dlogp[t] / (scale[t] * beta)).collect();
        let returns: Vec<f64> = (0..value.len()).map(|t| value[t] - dvalue[t] / scale[t]).collect();
        check(&mut setup, family, |logp, value| {
            let policy = |t: usize| 0.5 * scale[t] * (beta * logp[t] - targets[t]).powi(2);
            let values = |t: usize| 0.5 * scale[t] * (returns[t] - value[t]).powi(2);
            (0..logp.len()).map(|t| policy(t) + values(t)).sum()
        });
    }
}

/// `sum (logp - log pi_ref)` of each sequence: the reference's log-probs are those of [`rollout`].
fn log_ratios(starts: &[f64], logp: &[f64]) -> Vec<f64> {
    let of = |range: &[f64]| logp[range[0] as usize..range[1] as usize].iter().map(|logp| logp + 3.0).sum();
    starts.windows(2).map(of).collect()
}

/// A method that gives every token of a sequence the same gradient, and its loss by the sequences' log-ratios and rewards and the
/// values of their first states.
fn check_by_log_ratio(objective: impl Fn() -> Box<dyn Objective>, loss: impl Fn(&[f64], &[f64], &[f64]) -> f64 + Copy) {
    for family in FAMILIES {
        let mut setup = setup(&golden("dqo").join(family), objective());
        setup.forward();
        setup.backward();
        let starts = setup.session.batch.response_starts.read(setup.totals.sequences + 1).unwrap();
        let rollout = setup.session.rollout.read(4 * setup.positions).unwrap();
        let rewards: Vec<f64> = starts
            .windows(2)
            .map(|range| (range[0] as usize..range[1] as usize).map(|t| rollout[4 * t + 2]).sum())
            .collect();
        check(&mut setup, family, |logp, value| {
            let first_values: Vec<f64> =
                starts[..starts.len() - 1].iter().filter_map(|&start| value.get(start as usize)).copied().collect();
            loss(&log_ratios(&starts, logp), &rewards, &first_values)
        });
    }
}

/// The sessions' beta, as the kernels have it.
const BETA: f64 = 0.3f32 as f64;

/// The log-ratio of the sessions' mismatched pair.
const Z: f64 = 0.75;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn dpo_is_its_finite_differences() {
    check_by_log_ratio(
        || Box::new(Dpo { beta: BETA, ..Dpo::default() }),
        |d, _, _| {
            let pairs = d.chunks(2).map(|pair| -sigmoid(BETA * (pair[0] - pair[1])).ln());
            pairs.sum::<f64>() / (d.len() / 2) as f64
        },
    );
}

#[test]
fn kto_is_its_finite_differences() {
    // The rows are right and wrong by turns.
    check_by_log_ratio(
        || Box::new(Kto { beta: BETA, ..Kto::default() }),
        |d, _, _| {
            let loss = |(row, d): (usize, &f64)| {
                let u = BETA * (d - Z);
                1.0 - sigmoid(if row % 2 == 1 { u } else { -u })
            };
            d.iter().enumerate().map(loss).sum::<f64>() / d.len() as f64
        },
    );
}

#[test]
fn dro_is_its_finite_differences() {
    // L_pi and L_V are the same number, and each has the half of its gradient that the other leaves out.
    check_by_log_ratio(
        || Box::new(Dro { beta: BETA, ..Dro::default() }),
        |d, rewards, first_values| {
            let delta = |row: usize| rewards[row] - first_values[row] - BETA * d[row];
            (0..d.len()).map(|row| delta(row).powi(2)).sum::<f64>() / d.len() as f64
        },
    );
}

/// What responses are worth beside each other, by sequence.
fn advantage(sequence: usize) -> f64 {
    [0.8, -0.6, 0.3][sequence % 3]
}

/// The sequence of each position.
fn sequences(starts: &[f64]) -> Vec<usize> {
    let of = |(sequence, range): (usize, &[f64])| vec![sequence; (range[1] - range[0]) as usize];
    starts.windows(2).enumerate().flat_map(of).collect()
}

#[test]
fn a2po_is_its_finite_differences() {
    for family in FAMILIES {
        let objective = A2po { beta2: BETA, ..A2po::default() };
        let mut setup = setup(&golden("dqo").join(family), Box::new(objective));
        setup.forward();
        let starts = setup.session.batch.response_starts.read(setup.totals.sequences + 1).unwrap();
        let rollout = sequences(&starts).into_iter().flat_map(|sequence| [-3.0, 0.0, 0.0, advantage(sequence)]);
        setup.session.rollout.write(0, rollout.collect::<Vec<_>>().into_iter()).unwrap();
        setup.backward();
        check(&mut setup, family, |logp, _| {
            let log_ratios = log_ratios(&starts, logp);
            let losses = (0..log_ratios.len()).map(|row| (BETA * log_ratios[row] - advantage(row)).powi(2));
            losses.sum::<f64>() / log_ratios.len() as f64
        });
    }
}

#[test]
fn grpo_is_its_finite_differences() {
    for family in FAMILIES {
        let mut setup = setup(&golden("dqo").join(family), Box::new(Grpo { beta: BETA, ..Grpo::default() }));
        let (logp, _) = setup.forward();
        let starts = setup.session.batch.response_starts.read(setup.totals.sequences + 1).unwrap();
        let sequences = sequences(&starts);
        // Some tokens are clipped, either way, and none is near the edge.
        let moved = [-0.5, -0.1, 0.1, 0.5];
        let known = |t: usize| [logp[t] + moved[(t + 1) % 4], logp[t] - moved[t % 4], 0.0, advantage(sequences[t])];
        let rollout: Vec<[f64; 4]> = (0..logp.len()).map(known).collect();
        setup.session.rollout.write(0, rollout.as_flattened().iter().copied()).unwrap();
        setup.backward();
        let range = f64::from(0.2f32);
        // The difference's own error is that of a third derivative, which an exponential of a log-ratio has more of than a square.
        check_within(&mut setup, family, 5e-6, |logp, _| {
            let of_token = |t: usize| {
                let [logp_ref, logp_old, _, advantage] = rollout[t];
                let (ratio, x) = ((logp[t] - logp_old).exp(), logp_ref - logp[t]);
                let clipped = f64::max(-advantage * ratio, -advantage * ratio.clamp(1.0 - range, 1.0 + range));
                clipped + BETA * (x.exp() - 1.0 - x)
            };
            let of_sequence = |range: &[f64]| {
                let tokens = range[0] as usize..range[1] as usize;
                let count = tokens.len() as f64;
                tokens.map(of_token).sum::<f64>() / count
            };
            starts.windows(2).map(of_sequence).sum::<f64>() / (starts.len() - 1) as f64
        });
    }
}
