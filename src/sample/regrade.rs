//! `grade`: rewards for rows that have an answer.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::data::{Columns, ROW_FIELDS, for_each_row};
use crate::files::{spare, write_file};
use crate::grade::{Grading, Task};

/// What was graded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GradeSummary {
    pub rows: usize,
    pub right: usize,
    /// Rows whose response has no answer in the task's form.
    pub without_answer: usize,
}

/// Writes the rows of `data` to `output` with `reward` 1 where the response has the row's answer and 0 where not. All other
/// fields stay, those that `columns` names by our names.
///
/// # Errors
/// Names the file, the line and the field that is wrong; nothing is written then.
pub fn grade_file(task: Task, grading: Grading, data: &Path, columns: &Columns, output: &Path) -> Result<GradeSummary> {
    ensure!(task != Task::None, "--task none: there is nothing to grade by; choose gsm8k or math");
    spare(&[data], output)?;
    let (mut summary, mut graded) = (GradeSummary::default(), String::new());
    for_each_row(data, columns, &ROW_FIELDS, |row, _| {
        graded += &grade_row(row, task, grading, &mut summary)?.to_string();
        graded.push('\n');
        Ok(())
    })?;
    write_file(output, graded.as_bytes())?;
    Ok(summary)
}

fn grade_row(mut row: Map<String, Value>, task: Task, grading: Grading, summary: &mut GradeSummary) -> Result<Value> {
    let text = |names: &[&str]| names.iter().find_map(|name| row.get(*name)).and_then(Value::as_str);
    let completion = text(&["completion", "response"]);
    let completion = completion.context("field `completion`: is missing (or `response`), or is not text")?;
    let answer = text(&["answer"]).context("field `answer`: is missing, and is needed to grade")?;
    // An answer may stand in its whole solution.
    let answer = task.reference(answer).unwrap_or_else(|| answer.to_owned());
    let right = task.is_right(completion, &answer, grading);
    summary.rows += 1;
    summary.right += usize::from(right);
    summary.without_answer += usize::from(task.answer(completion, grading).is_none());
    row.insert("reward".to_owned(), f64::from(u8::from(right)).into());
    Ok(Value::Object(row))
}
