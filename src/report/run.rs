//! A run's records: what its `metrics.jsonl` and `config.toml` say.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::curve::{Curve, Point};
use super::read::{Unread, unchanged};
use super::written::Written;
use crate::files::INPUTS;
use crate::train::{Run, read_table};

/// A run, read from its output directory.
pub struct RunRecord {
    /// The directory's name; its path where another run has the same name.
    pub name: String,
    pub path: PathBuf,
    /// In the order in which the file has them.
    pub curves: Vec<Curve>,
    /// The configuration's keys and values, as TOML writes them but without a string's quotes.
    pub settings: Vec<(String, String)>,
    /// What a user should know of the run, in the order in which it was said.
    pub warnings: Vec<String>,
    pub clock: Clock,
    /// Whether a process trains there now.
    pub is_training: bool,
    /// How many problems the last evaluation was of.
    pub problems: Option<usize>,
    /// The responses that it trained on, or why they are not to be had.
    pub written: Result<Written, Unread>,
}

/// When each step was done.
#[derive(Default)]
pub struct Clock {
    pub steps: Vec<u64>,
    /// Since the start, a number a step; none where a row has none.
    pub tokens: Vec<f64>,
    /// The sum of the steps' times; none where a row has none.
    pub seconds: Vec<f64>,
}

impl RunRecord {
    /// Reads runs and names them.
    ///
    /// # Errors
    /// Names the file, and the line, that cannot be read or is not what a run writes.
    pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>> {
        let mut runs = paths.iter().map(|path| Self::read(path)).collect::<Result<Vec<_>>>()?;
        let names: Vec<_> = runs.iter().map(|run| run.name.clone()).collect();
        for run in &mut runs {
            if names.iter().filter(|name| **name == run.name).count() > 1 {
                run.name = run.path.display().to_string();
            }
        }
        Ok(runs)
    }

    fn read(path: &Path) -> Result<Self> {
        let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into());
        let Records { mut curves, warnings, clock } = read_records(&path.join("metrics.jsonl"))?;
        let config = path.join("config.toml");
        let settings = read_settings(&config)?;
        let inputs = read_inputs(&config)?;
        let data = settings.iter().find(|(key, _)| key == "data").map(|(_, path)| path);
        let problems = take(&mut curves, "eval/problems").map(|curve| curve.last().value as usize);
        let round = curves.iter().find(|curve| curve.metric == "round");
        let written = match round {
            Some(round) => Written::of_rounds(path, round),
            None => data
                .ok_or(Unread::Unnamed)
                .and_then(|path| unchanged(path, inputs.get("--data")))
                .and_then(|text| Written::of_data(&text)),
        };
        curves.extend(written.iter().flat_map(Written::curves));
        let is_training = Run::is_training_in(path);
        Ok(Self { name, path: path.to_owned(), curves, settings, warnings, clock, is_training, problems, written })
    }

    /// The curve of a metric.
    pub fn curve(&self, metric: &str) -> Option<&Curve> {
        self.curves.iter().find(|curve| curve.metric == metric)
    }

    /// The value of a setting.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The last step that has any metric.
    pub fn last_step(&self) -> u64 {
        self.curves.iter().map(|curve| curve.last().step).max().unwrap_or(0)
    }
}

impl Clock {
    /// Puts the step before training in front.
    pub fn begin(&mut self) {
        self.steps.insert(0, 0);
        for places in [&mut self.tokens, &mut self.seconds] {
            if !places.is_empty() {
                places.insert(0, 0.0);
            }
        }
    }
}

/// What `metrics.jsonl` has.
struct Records {
    curves: Vec<Curve>,
    warnings: Vec<String>,
    clock: Clock,
}

fn read_records(path: &Path) -> Result<Records> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let mut curves: Vec<Curve> = Vec::new();
    let mut warnings = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut last_step = None;
    let mut steps = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Map<String, Value> = match serde_json::from_str(line.trim_end()) {
            Ok(row) => row,
            // A run that goes on is in the middle of writing this line.
            Err(_) if !line.ends_with('\n') => break,
            Err(error) => anyhow::bail!("{}:{}: is not a JSON object: {error}", path.display(), index + 1),
        };
        let step = step_of(&row, last_step).with_context(|| format!("{}:{}", path.display(), index + 1))?;
        last_step = Some(step);
        if steps.last() != Some(&step) {
            steps.push(step);
        }
        let said = row.get("warnings").and_then(Value::as_array).into_iter().flatten();
        warnings.extend(said.filter_map(Value::as_str).map(str::to_owned));
        for (metric, value) in row.into_iter().filter(|(name, _)| name != "step") {
            let Some(value) = value.as_f64().filter(|value| value.is_finite()) else { continue };
            let place = *places.entry(metric).or_insert_with_key(|metric| {
                curves.push(Curve { metric: metric.clone(), points: Vec::new() });
                curves.len() - 1
            });
            curves[place].points.push(Point { step, value });
        }
    }
    ensure!(last_step.is_some(), "{}: has no rows", path.display());
    ensure!(!curves.is_empty(), "{}: has no metrics beside the steps", path.display());
    let clock = clock_of(&steps, &curves);
    Ok(Records { curves, warnings, clock })
}

/// What the rows say of time. A row of step 0 is before training: no tokens, no time.
fn clock_of(steps: &[u64], curves: &[Curve]) -> Clock {
    let of_steps = |metric: &str| {
        let points: &[Point] = curves.iter().find(|curve| curve.metric == metric).map_or(&[], |curve| &curve.points);
        let values: HashMap<u64, f64> = points.iter().map(|point| (point.step, point.value)).collect();
        let value = |step: &u64| values.get(step).copied().or((*step == 0).then_some(0.0));
        steps.iter().map(value).collect::<Option<Vec<f64>>>().unwrap_or_default()
    };
    let time = |sum: &mut f64, seconds: f64| {
        *sum += seconds;
        Some(*sum)
    };
    let seconds = of_steps("seconds").into_iter().scan(0.0, time).collect();
    Clock { steps: steps.to_vec(), tokens: of_steps("num_tokens"), seconds }
}

/// A row's step, which must not be before the last one's: else the file has the rows of two runs.
fn step_of(row: &Map<String, Value>, last: Option<u64>) -> Result<u64> {
    let step = row.get("step").context("field `step`: is missing")?;
    let step = step.as_u64().with_context(|| format!("field `step`: {step} is not a count of steps"))?;
    let last = last.unwrap_or(step);
    ensure!(last <= step, "field `step`: {step} stands after step {last}; are these the rows of two runs?");
    Ok(step)
}

fn read_settings(path: &Path) -> Result<Vec<(String, String)>> {
    let table = read_table(path)?;
    let text_of = |value: toml::Value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(table.into_iter().map(|(key, value)| (key, text_of(value))).collect())
}

/// What was in the files that the run read, by their options.
fn read_inputs(config: &Path) -> Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(config).with_context(|| format!("{}: cannot be read", config.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("{}: is not TOML", config.display()))?;
    let inputs = table.get(INPUTS).and_then(toml::Value::as_table).into_iter().flatten();
    Ok(inputs.filter_map(|(name, digest)| Some((name.clone(), digest.as_str()?.to_owned()))).collect())
}

fn take(curves: &mut Vec<Curve>, metric: &str) -> Option<Curve> {
    let place = curves.iter().position(|curve| curve.metric == metric)?;
    Some(curves.remove(place))
}
