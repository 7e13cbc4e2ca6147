//! The methods with their grids, and figures over seeds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dqo_wgpu::sample::standard_error;
use toml::{Table, toml};

use crate::data::{Data, NUM_SAMPLES, on};
use crate::lab::{Accuracy, Lab};

/// Training seeds of every reported figure.
pub const SEEDS: [u64; 3] = [1, 2, 3];

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

impl Row {
    fn of(name: &str, settings: String, accuracies: &[Accuracy]) -> Self {
        let mean = |of: fn(&Accuracy) -> f64| Mean::of(&accuracies.iter().map(of).collect::<Vec<_>>());
        let (greedy, sampled) = (mean(|accuracy| accuracy.greedy), mean(|accuracy| accuracy.sampled));
        Self { name: name.to_owned(), settings, greedy, sampled }
    }
}

/// Every method, in the order of the paper's tables, with the settings that are tried: `dqo`'s are given. The learning rates are
/// those of the paper times what a model of 150,000 weights needs; the betas are the paper's.
pub fn grids(data: &Data, dqo: Vec<Table>) -> Vec<(&'static str, Vec<Table>)> {
    let rates = |method: &str, rows: &Path, passes: i64, rates: &[f64]| {
        rates.iter().map(|&rate| learning(data, method, rows, passes, rate)).collect::<Vec<_>>()
    };
    let grid = |method: &str, rows: &Path, passes: i64, betas: &[f64], rates: &[f64]| {
        let mut grid = Vec::new();
        for &beta in betas {
            for &rate in rates {
                grid.push(with_beta(learning(data, method, rows, passes, rate), beta));
            }
        }
        grid
    };
    vec![
        // As many rows as the others see: there is one solution to a problem.
        ("sft", rates("sft", &data.solutions, 3 * NUM_SAMPLES as i64, &[1e-4, 3e-4, 1e-3])),
        ("rs", rates("rs", &data.rollouts, 3, &[3e-5, 1e-4, 3e-4])),
        ("dpo", grid("dpo", &data.rollouts, 1, &[0.1, 0.01], &[1e-5, 3e-5, 1e-4])),
        ("kto", grid("kto", &data.rollouts, 1, &[0.1, 0.01], &[1e-5, 3e-5, 1e-4])),
        ("dro", grid("dro", &data.rollouts, 3, &[0.03, 0.1, 0.3, 1.0], &[1e-5, 1e-4])),
        ("dqo", dqo),
        ("ppo", ppo(grid("ppo", &data.problems, NUM_SAMPLES as i64, &[0.03, 0.1], &[1e-4]))),
    ]
}

/// What every run from the base has in common.
pub fn learning(data: &Data, method: &str, rows: &Path, passes: i64, rate: f64) -> Table {
    let mut settings = on(Table::new(), &data.base, rows);
    settings.extend(toml! { method = method
        num_train_epochs = passes
        learning_rate = rate
        lr_scheduler_type = "cosine"
        eval_steps = 20
        task = "gsm8k"
    });
    settings.insert("eval_data".to_owned(), data.validation.display().to_string().into());
    if ["dro", "ppo", "dqo"].contains(&method) {
        settings.insert("value_learning_rate".to_owned(), 1e-3.into());
    }
    settings
}

pub fn with_beta(mut settings: Table, beta: f64) -> Table {
    settings.insert("beta".to_owned(), beta.into());
    settings
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
pub fn choose(lab: &Lab, data: &Data, grid: Vec<Table>) -> Result<Table> {
    let mut best: Option<(f64, Table)> = None;
    for settings in grid {
        let run = tried(lab, &settings)?;
        // Sampled too: greedy decoding alone leaves many settings at the same share.
        let accuracy =
            lab.accuracy(&format!("grid-{}", name_of(&settings)), &run.join("best/policy"), &data.validation, 7)?;
        let score = accuracy.greedy + accuracy.sampled;
        if best.as_ref().is_none_or(|(known, _)| score > *known) {
            best = Some((score, settings));
        }
    }
    Ok(best.context("there are no settings to choose from")?.1)
}

/// The run of settings that are tried once.
pub fn tried(lab: &Lab, settings: &Table) -> Result<PathBuf> {
    lab.train(&format!("grid/{}", name_of(settings)), &seeded(settings, SEEDS[0]))
}

/// Settings with a training seed.
pub fn seeded(settings: &Table, seed: u64) -> Table {
    let mut settings = settings.clone();
    settings.insert("seed".to_owned(), (seed as i64).into());
    settings
}

/// What is tried, as a name.
pub fn name_of(settings: &Table) -> String {
    let keys = ["beta", "learning_rate", "num_train_epochs"];
    let parts = keys.iter().filter_map(|key| settings.get(*key)).map(|value| format!("-{value}"));
    format!("{}{}", settings["method"].as_str().unwrap_or_default(), parts.collect::<String>())
}

/// What was chosen, as a table has it.
pub fn described(settings: &Table) -> String {
    let names = [("learning_rate", "learning rate"), ("beta", "beta"), ("num_train_epochs", "passes")];
    let describe = |(key, name)| settings.get(key).map(|value| format!("{name} {value}"));
    names.into_iter().filter_map(describe).collect::<Vec<_>>().join(", ")
}

/// Trains under every seed and evaluates the best checkpoints.
pub fn over_seeds(lab: &Lab, data: &Data, name: &str, text: String, settings: &Table) -> Result<Row> {
    evaluated(lab, data, name, text, |seed| {
        Ok(lab.train(&format!("runs/{name}-{seed}"), &seeded(settings, seed))?.join("best/policy"))
    })
}

/// The row of a policy of each seed.
pub fn evaluated(
    lab: &Lab,
    data: &Data,
    name: &str,
    text: String,
    policy: impl Fn(u64) -> Result<PathBuf>,
) -> Result<Row> {
    let accuracy = |seed| lab.accuracy(&format!("{name}-{seed}"), &policy(seed)?, &data.test, 100 * seed);
    Ok(Row::of(name, text, &SEEDS.map(accuracy).into_iter().collect::<Result<Vec<_>>>()?))
}
