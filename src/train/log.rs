//! The records of a run: `metrics.jsonl` and TensorBoard's event files.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Number, Value};

use super::tensorboard::EventWriter;
use crate::files;
use crate::progress::say;

/// Where each step's metrics go.
pub struct MetricsLog {
    file: File,
    path: PathBuf,
    events: EventWriter,
}

/// A step's metrics, in the order of the file.
pub type MetricsRow = Vec<(&'static str, f64)>;

impl MetricsLog {
    /// Opens the records in `dir` behind the row of step `done`; rows of later steps, which a run that goes on from a
    /// checkpoint computes again, are removed, and `visit` gets the others. Where rows of earlier steps are missing, stderr
    /// says so.
    ///
    /// # Errors
    /// Names the file that cannot be read or written.
    pub fn open(dir: &Path, done: usize, visit: impl FnMut(&Value)) -> Result<Self> {
        let path = dir.join("metrics.jsonl");
        let kept = if path.exists() { keep_rows(&path, done)? } else { Vec::new() };
        let of_steps = kept.iter().filter(|row| row["step"] != 0).count();
        if of_steps < done {
            say(format_args!("warning: {}: has {of_steps} rows of the {done} steps that are done", path.display()));
        }
        kept.iter().for_each(visit);
        Ok(Self { file: open(&path)?, path, events: EventWriter::create(&dir.join("tensorboard"))? })
    }

    /// Adds metrics to the end of the last row, which is that of `step`; where it has them, they are replaced. Where there is no
    /// row, it is made.
    ///
    /// # Errors
    /// Names the file that cannot be read or written.
    pub fn complete(&mut self, step: usize, metrics: &MetricsRow) -> Result<()> {
        let text = read(&self.path)?;
        if text.is_empty() {
            return self.add(step, metrics, &[]);
        }
        // As text: a number that is read and written again may not be the same.
        let added: String = metrics.iter().map(|&(name, value)| format!(",\"{name}\":{}", number(value))).collect();
        let first = added.split_inclusive(':').next().unwrap_or_default();
        let rows = text.trim_end_matches(['\n', '}']);
        let last = rows.rfind('\n').map_or(0, |end| end + 1);
        let end = rows[last..].find(first).map_or(rows.len(), |place| last + place);
        files::write_file(&self.path, format!("{}{added}}}\n", &rows[..end]).as_bytes())?;
        self.file = open(&self.path)?;
        self.events.scalars(step, metrics.iter().copied())
    }

    /// Makes the rows last: a checkpoint that is whole has the rows before it.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().with_context(|| format!("{}: cannot be synced", self.path.display()))
    }

    /// Adds the row of a step, and what a user should know of it.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn add(&mut self, step: usize, row: &MetricsRow, warnings: &[String]) -> Result<()> {
        let mut json = Map::new();
        json.insert("step".to_owned(), step.into());
        for &(name, value) in row {
            // JSON has no infinities; what is not finite stopped the run before it came here.
            json.insert(name.to_owned(), number(value));
        }
        if !warnings.is_empty() {
            json.insert("warnings".to_owned(), warnings.into());
        }
        let line = serde_json::to_string(&json)? + "\n";
        self.file.write_all(line.as_bytes()).with_context(|| format!("{}: cannot be written", self.path.display()))?;
        self.events.scalars(step, row.iter().copied())
    }
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("{}: cannot be written", path.display()))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))
}

/// Counts as integers, so that they read as what they are.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return (value as i64).into();
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Removes the rows of steps after `done`; those that are left.
fn keep_rows(path: &Path, done: usize) -> Result<Vec<Value>> {
    let text = read(path)?;
    let (mut kept, mut rows) = (String::new(), Vec::new());
    for line in text.lines() {
        let row: Option<Value> = serde_json::from_str(line).ok();
        let is_kept = |row: &Value| row["step"].as_u64().is_some_and(|step| step as usize <= done);
        if let Some(row) = row.filter(is_kept) {
            kept.extend([line, "\n"]);
            rows.push(row);
        }
    }
    if kept != text {
        files::write_file(path, kept.as_bytes())?;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_continues_its_records() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(dir.path(), 0, |_| ()).unwrap();
        for step in 1..=3 {
            log.add(step, &vec![("loss", 0.5), ("num_tokens", 7.0)], &[]).unwrap();
        }
        let mut kept = Vec::new();
        let mut log = MetricsLog::open(dir.path(), 2, |row| kept.push(row["step"].clone())).unwrap();
        assert_eq!(kept, [1, 2]);
        log.add(3, &vec![("loss", 0.25)], &[]).unwrap();
        let text = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
        let row = |step| format!("{{\"step\":{step},\"loss\":0.5,\"num_tokens\":7}}\n");
        assert_eq!(text, row(1) + &row(2) + "{\"step\":3,\"loss\":0.25}\n");

        // An evaluation that was interrupted, and made when the run went on; again where it was killed then.
        for accuracy in [0.5, 0.75] {
            log.complete(3, &vec![("eval/accuracy", accuracy), ("eval/problems", 8.0)]).unwrap();
        }
        log.add(4, &vec![("loss", 0.25)], &["it is hot".to_owned()]).unwrap();
        let text = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
        let completed = "{\"step\":3,\"loss\":0.25,\"eval/accuracy\":0.75,\"eval/problems\":8}\n";
        assert_eq!(text, row(1) + &row(2) + completed + "{\"step\":4,\"loss\":0.25,\"warnings\":[\"it is hot\"]}\n");
    }
}
