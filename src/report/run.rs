//! A run's records: what its `metrics.jsonl` and `config.toml` say.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::train::read_table;

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
}

/// A metric over the run.
pub struct Curve {
    pub metric: String,
    /// At least one; their steps never fall.
    pub points: Vec<Point>,
}

/// A metric's value at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub step: u64,
    pub value: f64,
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
        let Records { curves, warnings } = read_records(&path.join("metrics.jsonl"))?;
        let settings = read_settings(&path.join("config.toml"))?;
        Ok(Self { name, path: path.to_owned(), curves, settings, warnings })
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

impl Curve {
    /// Its last point.
    pub fn last(&self) -> Point {
        self.points[self.points.len() - 1]
    }
}

/// What `metrics.jsonl` has.
struct Records {
    curves: Vec<Curve>,
    warnings: Vec<String>,
}

fn read_records(path: &Path) -> Result<Records> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let mut curves: Vec<Curve> = Vec::new();
    let mut warnings = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut last_step = None;
    for (index, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Map<String, Value> = match serde_json::from_str(line.trim_end()) {
            Ok(row) => row,
            // A run that goes on is in the middle of writing this line.
            Err(_) if !line.ends_with('\n') => break,
            Err(error) => anyhow::bail!("{}:{}: is not a JSON object: {error}", path.display(), index + 1),
        };
        let step = step_of(&row, last_step).with_context(|| format!("{}:{}", path.display(), index + 1))?;
        last_step = Some(step);
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
    Ok(Records { curves, warnings })
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
