//! The experiments: a base, its rollouts, every method with its grid, the ablations, and what V knows.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dqo_wgpu::report::{Correlation, ValuedResponse, roc_area};
use dqo_wgpu::sample::standard_error;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use toml::{Table, toml};

use crate::lab::{Accuracy, Lab};
use crate::task::{Carelessness, Sum};

/// Training seeds of every reported figure.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Responses to each training problem.
const NUM_SAMPLES: usize = 20;
const CARELESSNESS: Carelessness = Carelessness { forgotten: 0.55, slips: 0.15 };

/// Files that all experiments share.
struct Data {
    base: PathBuf,
    canonical: PathBuf,
    problems: PathBuf,
    validation: PathBuf,
    test: PathBuf,
    rollouts: PathBuf,
}

/// A measured mean with its standard error over the seeds.
#[derive(Clone, Copy, Debug)]
pub struct Mean {
    pub mean: f64,
    pub error: f64,
}

impl Mean {
    fn of(values: &[f64]) -> Self {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { mean, error: standard_error(values).unwrap_or(0.0) }
    }
}

/// A row of a table of accuracies.
pub struct Row {
    pub name: String,
    /// What the grid chose, or what is switched.
    pub settings: String,
    pub greedy: Mean,
    pub sampled: Mean,
}

/// What V knows at a step of training.
pub struct Knowledge {
    pub step: u64,
    /// Between V at the ends of segments and their process rewards.
    pub correlation: f64,
    /// Of V as a judge of whether a segment of a wrong response still stands on right ones.
    pub auc: f64,
}

/// A response to a sum, segment by segment: its text, V at its end, whether it and all before it are right.
pub struct Case {
    pub sum: String,
    pub segments: Vec<(String, f64, bool)>,
}

/// Everything that is reported.
pub struct Results {
    pub base: Row,
    pub methods: Vec<Row>,
    /// Rollouts of the base, and of a younger policy: each with the four settings of the importance weights.
    pub importance: [Vec<Row>; 2],
    pub lambda: Vec<Row>,
    pub process: Vec<Row>,
    /// With the importance weight in the value loss, and without it.
    pub knowledge: [Vec<Knowledge>; 2],
    /// A wrong response.
    pub case: Case,
    /// Rollouts, and the share of right ones.
    pub rollouts: (usize, f64),
    /// The mean importance weight of the first step's responses, of the base's rollouts and of the younger policy's.
    pub first_weights: [f64; 2],
}

/// Runs everything that is not there yet.
pub fn run(lab: &Lab) -> Result<Results> {
    let data = prepare(lab)?;
    let base_accuracies = SEEDS.map(|seed| lab.accuracy(&format!("base-{seed}"), &data.base, &data.test, 100 * seed));
    let base = row("base", String::new(), base_accuracies.into_iter().collect::<Result<Vec<_>>>()?);

    let mut methods = Vec::new();
    let mut dqo = Table::new();
    for (method, grid) in grids(&data) {
        let chosen = choose(lab, &data, method, &grid)?;
        let describe = |key: &str| chosen.get(key).map(|value| format!("{} {value}", key.replace('_', " ")));
        let settings = ["learning_rate", "beta"].iter().filter_map(|key| describe(key)).collect::<Vec<_>>().join(", ");
        methods.push(over_seeds(lab, &data, method, settings, &chosen)?);
        if method == "dqo" {
            dqo = chosen;
        }
    }

    let young = young_rollouts(lab, &data)?;
    let switched = |name: &str, text: &str, changes: Table| {
        let mut settings = dqo.clone();
        settings.extend(changes);
        over_seeds(lab, &data, name, text.to_owned(), &settings)
    };
    let importance = |name: &str, rollouts: &Path| -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (policy_is, value_is) in [(false, false), (false, true), (true, false), (true, true)] {
            let file = rollouts.display().to_string();
            let changes = toml! { data = file
                policy_is = policy_is
                value_is = value_is
            };
            let text = format!("Q-loss {} IS, V-loss {} IS", with(policy_is), with(value_is));
            let same = policy_is && value_is && rollouts == data.rollouts;
            let name = if same { "dqo".to_owned() } else { format!("{name}-{policy_is}-{value_is}") };
            rows.push(switched(&name, &text, changes)?);
        }
        Ok(rows)
    };
    let importance = [importance("is", &data.rollouts)?, importance("is-young", &young)?];
    let lambda = vec![
        switched("lambda-standard", "lambda 0.95, usual weights", toml! { lambda = 0.95 })?,
        switched(
            "lambda-paper",
            "lambda 0.95, weights as eq. 3.11 prints them",
            toml! { lambda = 0.95
                lambda_tail = "paper"
            },
        )?,
        switched("dqo", "lambda 1", Table::new())?,
    ];
    let scored = lab.process_rewards("scored.jsonl", &data.base, &data.rollouts)?;
    let scored_file = scored.display().to_string();
    let process = vec![
        switched("dqo", "without process rewards", Table::new())?,
        switched("process", "with process rewards", toml! { data = scored_file })?,
    ];

    let held_back = lab.sample("validation-rollouts.jsonl", &data.base, &data.validation, 4)?;
    let held_back = lab.process_rewards("validation-scored.jsonl", &data.base, &held_back)?;
    let knowledge = |value_is: bool| -> Result<(Vec<Knowledge>, PathBuf)> {
        let mut settings = dqo.clone();
        settings.extend(toml! { value_is = value_is
            seed = 1
            save_steps = 30
            save_total_limit = 0
        });
        let run = lab.train(&format!("runs/knowledge-{value_is}"), &settings)?;
        Ok((what_v_knows(lab, &run, &held_back)?, run))
    };
    let (with_weight, _) = knowledge(true)?;
    let (without_weight, run) = knowledge(false)?;
    let case = wrong_response(&lab.values(&run.join("final/value"), &held_back)?.responses)?;

    let (count, right) = count(&data.rollouts)?;
    let first_weight = |run: &str| first_metric(&lab.path(&format!("runs/{run}-1")), "is_weight/mean");
    Ok(Results {
        base,
        methods,
        importance,
        lambda,
        process,
        knowledge: [with_weight, without_weight],
        case,
        rollouts: (count, right as f64 / count as f64),
        first_weights: [first_weight("dqo")?, first_weight("is-young-true-true")?],
    })
}

fn with(on: bool) -> &'static str {
    if on { "with" } else { "without" }
}

/// The base model, the problems and the base's rollouts.
fn prepare(lab: &Lab) -> Result<Data> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut seen = HashSet::new();
    let [taught, problems, validation, test] =
        [12_000, 200, 200, 500].map(|count| Sum::draw(count, &mut seen, &mut rng));
    let demonstrations =
        lab.rows("demonstrations.jsonl", || taught.iter().map(|sum| sum.careless(CARELESSNESS, &mut rng)).collect())?;
    let canonical = lab.rows("canonical.jsonl", || problems.iter().map(|sum| sum.canonical()).collect())?;
    let asked = |name: &str, sums: &[Sum]| lab.rows(name, || sums.iter().map(|sum| sum.problem()).collect());
    let (problems, validation, test) =
        (asked("problems.jsonl", &problems)?, asked("validation.jsonl", &validation)?, asked("test.jsonl", &test)?);
    let start = random_model(&lab.path("start"))?;
    let teaching = toml! { method = "sft"
        batch_size = 64
        learning_rate = 2e-3
        lr_scheduler_type = "cosine"
        warmup_ratio = 0.05
        num_train_epochs = 6
    };
    let base = lab.train("base", &on(teaching, &start, &demonstrations))?.join("final/policy");
    let rollouts = lab.sample("rollouts.jsonl", &base, &problems, NUM_SAMPLES)?;
    Ok(Data { base, canonical, problems, validation, test, rollouts })
}

/// Rollouts of a policy that saw a third of the demonstrations' passes: off-policy data for the base.
fn young_rollouts(lab: &Lab, data: &Data) -> Result<PathBuf> {
    let teaching = toml! { method = "sft"
        batch_size = 64
        learning_rate = 2e-3
        lr_scheduler_type = "cosine"
        warmup_ratio = 0.05
        num_train_epochs = 2
    };
    let young = lab.train("young", &on(teaching, &lab.path("start"), &lab.path("demonstrations.jsonl")))?;
    lab.sample("young-rollouts.jsonl", &young.join("final/policy"), &data.problems, NUM_SAMPLES)
}

/// Settings with a model and its data.
fn on(mut settings: Table, model: &Path, rows: &Path) -> Table {
    settings.insert("model".to_owned(), model.display().to_string().into());
    settings.insert("data".to_owned(), rows.display().to_string().into());
    settings
}

/// The demo's architecture and tokenizer, with random weights.
fn random_model(dir: &Path) -> Result<PathBuf> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    std::fs::create_dir_all(dir)?;
    for entry in std::fs::read_dir(&demo)? {
        let entry = entry?;
        if entry.file_name() != "model.safetensors" {
            std::fs::copy(entry.path(), dir.join(entry.file_name()))?;
        }
    }
    let bytes = std::fs::read(demo.join("model.safetensors"))?;
    let shapes = SafeTensors::deserialize(&bytes)?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut weights: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for (name, tensor) in shapes.tensors() {
        let count: usize = tensor.shape().iter().product();
        let is_norm = name.ends_with("norm.weight");
        // Uniform, of the standard deviation 0.08.
        let width = 0.08 * 3f32.sqrt();
        let value = |_| if is_norm { 1.0 } else { rng.random_range(-width..width) };
        weights.push((name, tensor.shape().to_vec(), (0..count).map(value).collect()));
    }
    let views = weights.iter().map(|(name, shape, values)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values))?;
        Ok::<_, anyhow::Error>((name.as_str(), view))
    });
    let contents = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?;
    dqo_wgpu::files::write_file(&dir.join("model.safetensors"), &contents)?;
    Ok(dir.to_owned())
}

/// Every method, in the order of the paper's tables, with the settings that are tried. The learning rates are those of the
/// paper times what a model of 150,000 weights needs; the betas are the paper's.
fn grids(data: &Data) -> Vec<(&'static str, Vec<Table>)> {
    let settings = |method: &str, rows: &Path, epochs: i64, betas: &[f64], rates: &[f64]| {
        let mut grid = Vec::new();
        for &beta in betas {
            for &rate in rates {
                let mut settings = on(Table::new(), &data.base, rows);
                settings.extend(toml! { method = method
                    num_train_epochs = epochs
                    learning_rate = rate
                    lr_scheduler_type = "cosine"
                    eval_steps = 20
                    task = "gsm8k"
                });
                settings.insert("eval_data".to_owned(), data.validation.display().to_string().into());
                if !["sft", "rs"].contains(&method) {
                    settings.insert("beta".to_owned(), beta.into());
                }
                if ["dro", "ppo", "dqo"].contains(&method) {
                    settings.insert("value_learning_rate".to_owned(), 1e-3.into());
                }
                grid.push(settings);
            }
        }
        grid
    };
    vec![
        ("sft", settings("sft", &data.canonical, 3, &[0.0], &[1e-4, 3e-4, 1e-3])),
        ("rs", settings("rs", &data.rollouts, 3, &[0.0], &[3e-5, 1e-4, 3e-4])),
        ("dpo", settings("dpo", &data.rollouts, 1, &[0.1, 0.01], &[1e-5, 3e-5, 1e-4])),
        ("kto", settings("kto", &data.rollouts, 1, &[0.1, 0.01], &[1e-5, 3e-5, 1e-4])),
        ("dro", settings("dro", &data.rollouts, 3, &[0.01, 0.03, 0.1, 0.3, 1.0], &[1e-4])),
        ("dqo", settings("dqo", &data.rollouts, 3, &[0.03, 0.1, 0.3, 1.0], &[1e-4])),
        ("ppo", ppo(settings("ppo", &data.problems, NUM_SAMPLES as i64, &[0.03, 0.1], &[1e-4]))),
    ]
}

/// PPO draws as many responses as the others are given.
fn ppo(mut grid: Vec<Table>) -> Vec<Table> {
    for settings in &mut grid {
        settings.extend(toml! { rollouts_per_round = 600
            lambda = 0.95
        });
    }
    grid
}

/// The settings whose best checkpoint solves the most problems of the validation set; the first of equals.
fn choose(lab: &Lab, data: &Data, method: &str, grid: &[Table]) -> Result<Table> {
    let mut best: Option<(f64, &Table)> = None;
    for settings in grid {
        let name = name_of(method, settings);
        let mut settings_of_run = settings.clone();
        settings_of_run.insert("seed".to_owned(), 1.into());
        let run = lab.train(&format!("grid/{name}"), &settings_of_run)?;
        let policy = run.join("best/policy");
        // Sampled: greedy decoding alone leaves many settings at the same share.
        let accuracy = lab.accuracy(&format!("grid-{name}"), &policy, &data.validation, 7)?;
        let score = accuracy.greedy + accuracy.sampled;
        if best.is_none_or(|(known, _)| score > known) {
            best = Some((score, settings));
        }
    }
    Ok(best.context("a method without settings")?.1.clone())
}

fn name_of(method: &str, settings: &Table) -> String {
    let part = |key: &str| settings.get(key).map_or(String::new(), |value| format!("-{value}"));
    format!("{method}{}{}", part("beta"), part("learning_rate"))
}

/// Trains under every seed and evaluates the best checkpoints.
fn over_seeds(lab: &Lab, data: &Data, name: &str, text: String, settings: &Table) -> Result<Row> {
    let mut accuracies = Vec::new();
    for seed in SEEDS {
        let mut settings = settings.clone();
        settings.insert("seed".to_owned(), (seed as i64).into());
        let run = lab.train(&format!("runs/{name}-{seed}"), &settings)?;
        let policy = run.join("best/policy");
        accuracies.push(lab.accuracy(&format!("{name}-{seed}"), &policy, &data.test, 100 * seed)?);
    }
    Ok(row(name, text, accuracies))
}

fn row(name: &str, settings: String, accuracies: Vec<Accuracy>) -> Row {
    let mean = |of: &dyn Fn(&Accuracy) -> f64| Mean::of(&accuracies.iter().map(of).collect::<Vec<_>>());
    let (greedy, sampled) = (mean(&|accuracy| accuracy.greedy), mean(&|accuracy| accuracy.sampled));
    Row { name: name.to_owned(), settings, greedy, sampled }
}

/// At every checkpoint of a run, on responses that were not trained on.
fn what_v_knows(lab: &Lab, run: &Path, scored: &Path) -> Result<Vec<Knowledge>> {
    let mut checkpoints: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(run)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(step) = name.strip_prefix("checkpoint-").and_then(|step| step.parse().ok()) {
            checkpoints.push((step, path.join("value")));
        }
    }
    checkpoints.sort();
    let mut known = Vec::new();
    for (step, value) in checkpoints {
        let valued = lab.values(&value, scored)?;
        let correlation = valued.correlation.map_or(f64::NAN, |Correlation { pearson, .. }| pearson);
        known.push(Knowledge { step, correlation, auc: auc(&valued.responses)? });
    }
    Ok(known)
}

/// The sum that a prompt asks for.
fn asked(response: &ValuedResponse) -> Result<Sum> {
    let digits = response.prompt.split(|character: char| !character.is_ascii_digit()).filter(|part| !part.is_empty());
    let numbers = digits.map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    match numbers[..] {
        [a, b] => Ok(Sum { a, b }),
        _ => anyhow::bail!("{:?} is no sum", response.prompt),
    }
}

/// Whether each segment of a response and all before it are right.
fn judged(response: &ValuedResponse) -> Result<Vec<(&str, f64, bool)>> {
    let right = asked(response)?.right_segments(response.segments.iter().map(|segment| segment.text.as_str()));
    Ok(response
        .segments
        .iter()
        .zip(right)
        .map(|(segment, right)| (segment.text.trim(), segment.value, right))
        .collect())
}

/// The area under the ROC curve of V as a judge of segments, over all segments of wrong responses.
fn auc(responses: &[ValuedResponse]) -> Result<f64> {
    let mut segments = Vec::new();
    for response in responses.iter().filter(|response| response.right == Some(false)) {
        segments.extend(judged(response)?.into_iter().map(|(_, value, is_right)| (value, is_right)));
    }
    Ok(roc_area(&segments).map_or(f64::NAN, |area| area.area))
}

/// The first wrong response that goes wrong behind its first segment.
fn wrong_response(responses: &[ValuedResponse]) -> Result<Case> {
    for response in responses.iter().filter(|response| response.right == Some(false)) {
        let judged = judged(response)?;
        if judged.len() == 4 && judged[0].2 && !judged[1].2 {
            let segments = judged.into_iter().map(|(text, value, right)| (text.to_owned(), value, right)).collect();
            let Sum { a, b } = asked(response)?;
            return Ok(Case { sum: format!("{a} + {b}"), segments });
        }
    }
    anyhow::bail!("no wrong response goes wrong at its second segment")
}

/// Rows of a file, and those that are right.
fn count(rollouts: &Path) -> Result<(usize, usize)> {
    let text = std::fs::read_to_string(rollouts)?;
    let rows = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok((rows.len(), rows.iter().filter(|row| row["reward"].as_f64() > Some(0.5)).count()))
}

/// A metric of a run's first step.
fn first_metric(run: &Path, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl"))?;
    let first: Value = serde_json::from_str(text.lines().next().context("a run without steps")?)?;
    first[name].as_f64().with_context(|| format!("{}: no {name}", run.display()))
}
