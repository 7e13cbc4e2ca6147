//! Where policies live: DQO over learning rate, beta and passes, and what V knows where the policy ends.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use toml::{Table, toml};

use crate::data::Data;
use crate::knowledge::Knowledge;
use crate::lab::{Accuracy, Lab, rows_of};
use crate::methods::{SEEDS, learning, name_of, seeded, tried, with_beta};

const RATES: [f64; 5] = [5e-6, 1e-5, 2e-5, 5e-5, 1e-4];
/// The paper's.
const BETAS: [f64; 4] = [0.03, 0.1, 0.3, 1.0];
/// Of the first sweep, and of the second, over more of them.
const PASSES: i64 = 3;
const MORE_PASSES: i64 = 9;

/// Policies that are near their reference: the mean importance weight of the last steps' responses is at least this.
pub const NEAR: f64 = 0.9;

/// Where a run ended.
pub struct Place {
    pub settings: Table,
    /// Of the responses of the last quarter of the steps, on average.
    pub weight: f64,
    pub log_ratio: f64,
    pub knowledge: Knowledge,
    pub accuracy: Accuracy,
}

/// DQO with both importance weights.
fn dqo(data: &Data, passes: i64, rate: f64, beta: f64) -> Table {
    with_beta(learning(data, "dqo", &data.rollouts, passes, rate), beta)
}

/// The places of DQO with both importance weights.
pub struct Regime {
    /// Over learning rates and betas, with as many passes as other methods have: DQO's grid.
    pub grid: Vec<Place>,
    /// More passes at low rates.
    pub longer: Vec<Place>,
}

/// The settings over learning rates and betas.
pub fn grid(data: &Data) -> impl Iterator<Item = Table> {
    RATES.iter().flat_map(|&rate| BETAS.map(|beta| dqo(data, PASSES, rate, beta)))
}

impl Regime {
    pub fn of(lab: &Lab, data: &Data) -> Result<Self> {
        let place = |settings: Table| {
            let run = tried(lab, &settings)?;
            let name = format!("place-{}", name_of(&settings));
            place(lab, data, &name, settings, &run)
        };
        let longer = RATES[..2].iter().map(|&rate| dqo(data, MORE_PASSES, rate, 0.1));
        Ok(Self {
            grid: grid(data).map(place).collect::<Result<_>>()?,
            longer: longer.map(place).collect::<Result<_>>()?,
        })
    }
}

/// Whether V can follow a policy that moves: at a rate at which it leaves slowly and at one at which it is soon gone.
pub fn following(lab: &Lab, data: &Data) -> Result<Vec<(&'static str, Place)>> {
    // V alone first: the policy stands still.
    let alone = seeded(&dqo(data, PASSES, 0.0, 0.1), SEEDS[0]);
    let alone = lab.train("following/alone", &alone)?.join("final/value").display().to_string();
    let ways = [
        ("as above", Table::new()),
        ("V at three times the rate", toml! { value_learning_rate = 3e-3 }),
        ("V alone for three passes first", toml! { value_model = alone }),
        ("no weight in V's loss", toml! { value_is = false }),
    ];
    let mut places = Vec::new();
    for rate in [RATES[2], RATES[4]] {
        for (number, (way, changes)) in ways.iter().enumerate() {
            let mut settings = seeded(&dqo(data, PASSES, rate, 0.1), SEEDS[0]);
            settings.extend(changes.clone());
            let name = format!("following-{rate}-{number}");
            let run = lab.train(&format!("following/{rate}-{number}"), &settings)?;
            places.push((*way, place(lab, data, &name, settings, &run)?));
        }
    }
    Ok(places)
}

fn place(lab: &Lab, data: &Data, name: &str, settings: Table, run: &Path) -> Result<Place> {
    let metrics = last_quarter(run)?;
    Ok(Place {
        settings,
        weight: mean(&metrics, "is_weight/mean")?,
        log_ratio: mean(&metrics, "log_ratio")?,
        knowledge: Knowledge::of(lab, &run.join("final/value"), &data.held_back)?,
        accuracy: lab.accuracy(name, &run.join("final/policy"), &data.test, 100)?,
    })
}

/// A run's metrics, a value a step.
fn metrics(run: &Path) -> Result<Vec<Value>> {
    let rows = rows_of(&run.join("metrics.jsonl"))?;
    Ok(rows.into_iter().filter(|row| row.get("is_weight/mean").is_some()).collect())
}

fn last_quarter(run: &Path) -> Result<Vec<Value>> {
    let mut rows = metrics(run)?;
    Ok(rows.split_off(rows.len() * 3 / 4))
}

fn mean(rows: &[Value], name: &str) -> Result<f64> {
    let values = rows.iter().map(|row| row[name].as_f64()).collect::<Option<Vec<_>>>();
    let values = values.with_context(|| format!("a step without {name}"))?;
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// The mean importance weight of a run's first step.
pub fn first_weight(run: &Path) -> Result<f64> {
    mean(&metrics(run)?[..1], "is_weight/mean")
}
