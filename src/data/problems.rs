//! Problems to be solved: GSM8K's rows, MATH's rows, or prompts with answers.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::columns::Columns;
use super::lines::{for_each_row, no_slips};
use super::rows::{Text, check_messages};
use crate::files::input_name;
use crate::grade::Task;

/// A file of problems.
pub struct ProblemFile {
    /// Where it was read from, to name it in errors.
    pub path: PathBuf,
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

/// A problem as it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The line in the file, from 1.
    pub line: usize,
    pub prompt: Text,
    /// The reference answer, where the row has one.
    pub answer: Option<String>,
    /// MATH's `level`.
    pub level: Option<String>,
    /// MATH's `type`.
    pub subject: Option<String>,
}

impl ProblemFile {
    /// Reads a JSONL file. `task` says how a problem is asked and where a solution has its answer.
    ///
    /// # Errors
    /// Names the file, the line and the field that is wrong, or the column that is not there.
    pub fn read(path: &Path, columns: &Columns, task: Task) -> Result<Self> {
        let mut problems = Vec::new();
        for_each_row(path, columns, &FIELDS, |row, number| {
            problems.push(parse(&row, number, task)?);
            Ok(())
        })?;
        Ok(Self { path: path.to_owned(), problems })
    }

    /// `FILE:LINE`, to begin an error with.
    pub fn place(&self, problem: &Problem) -> String {
        format!("{}:{}", input_name(&self.path), problem.line)
    }

    /// Checks that every problem has an answer.
    ///
    /// # Errors
    /// Names the first that has none.
    pub fn need_answers(&self) -> Result<()> {
        match self.problems.iter().find(|problem| problem.answer.is_none()) {
            None => Ok(()),
            Some(problem) => bail!("{}: field `answer`: is missing, and is needed to grade", self.place(problem)),
        }
    }
}

/// The fields of a problem.
const FIELDS: [&str; 7] = ["question", "problem", "prompt", "answer", "solution", "level", "type"];

/// Fields that other data sets have, near to ours as they are.
const OTHERS: [&str; 4] = ["prompts", "answers", "levels", "types"];

fn parse(row: &Map<String, Value>, number: usize, task: Task) -> Result<Problem> {
    no_slips(row, &FIELDS, &OTHERS)?;
    let text = |name: &str| match row.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(other) => bail!("field `{name}`: {other} is not text"),
    };
    let ask = |problem: &str| Text::Messages(vec![json!({ "role": "user", "content": task.user_message(problem) })]);
    // The answer in a solution; in GSM8K's own rows, and MATH's, it must be there.
    let solved = |name: &str| {
        let Some(solution) = text(name)? else { return Ok(None) };
        let answer = task.reference(solution);
        ensure!(answer.is_some(), "field `{name}`: has no answer as the task's solutions have it");
        Ok(answer)
    };
    let (prompt, answer) = match (text("question")?, text("problem")?, row.get("prompt")) {
        (Some(question), _, _) => (ask(question), solved("answer")?),
        (None, Some(problem), _) => (ask(problem), solved("solution")?),
        (None, None, Some(Value::String(prompt))) => (Text::Plain(prompt.clone()), given_answer(row)?),
        (None, None, Some(Value::Array(messages))) => (check_messages("prompt", messages)?, given_answer(row)?),
        (None, None, Some(_)) => bail!("field `prompt`: is neither text nor a list of messages"),
        (None, None, None) => bail!("field `question` (or `problem`, or `prompt`): is missing"),
    };
    let owned = |name: &str| Ok::<_, anyhow::Error>(text(name)?.map(str::to_owned));
    Ok(Problem { line: number, prompt, answer, level: owned("level")?, subject: owned("type")? })
}

/// The answer of a row with a prompt: text, or a number as it is written.
fn given_answer(row: &Map<String, Value>) -> Result<Option<String>> {
    match row.get("answer") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(answer)) => Ok(Some(answer.clone())),
        Some(Value::Number(answer)) => Ok(Some(answer.to_string())),
        Some(other) => bail!("field `answer`: {other} is neither text nor a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(row: Value, task: Task) -> Result<Problem> {
        parse(row.as_object().unwrap(), 1, task)
    }

    #[test]
    fn the_data_sets_own_rows_are_asked_with_their_guides() {
        let gsm8k = parsed(json!({"question": "2+2?", "answer": "It is 4.\n#### 4"}), Task::Gsm8k).unwrap();
        assert_eq!(gsm8k.answer.as_deref(), Some("4"));
        let content = format!(
            "2+2?{}",
            "\nPlease reason step by step, and produce a final answer following 4 '#', like '#### 0'."
        );
        assert_eq!(gsm8k.prompt, Text::Messages(vec![json!({"role": "user", "content": content})]));
        let row = json!({"problem": "P", "solution": "so $\\boxed{\\frac12}$", "level": "Level 5", "type": "Algebra"});
        let math = parsed(row, Task::Math).unwrap();
        assert_eq!((math.answer.as_deref(), math.level.as_deref()), (Some("\\frac12"), Some("Level 5")));
        assert_eq!(math.subject.as_deref(), Some("Algebra"));
    }

    #[test]
    fn prompts_are_taken_as_they_are() {
        let plain = parsed(json!({"prompt": "1+1=", "answer": 2}), Task::None).unwrap();
        assert_eq!((plain.prompt, plain.answer.as_deref()), (Text::Plain("1+1=".to_owned()), Some("2")));
        let bare = parsed(json!({"question": "Why?"}), Task::Gsm8k).unwrap();
        assert_eq!(bare.answer, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |row, task| format!("{:#}", parsed(row, task).unwrap_err());
        assert_eq!(
            message(json!({"text": "x"}), Task::None),
            "field `question` (or `problem`, or `prompt`): is missing"
        );
        assert_eq!(
            message(json!({"question": "x", "answer": "four"}), Task::Gsm8k),
            "field `answer`: has no answer as the task's solutions have it"
        );
        assert_eq!(message(json!({"question": 3}), Task::Gsm8k), "field `question`: 3 is not text");
    }
}
