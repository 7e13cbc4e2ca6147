//! Rows of rollouts, as this project and other trainers write them: parsed and checked, nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::files::read_lines;

/// A file of rows.
#[derive(Default)]
pub struct RowFile {
    /// Where it was read from, to name it in errors.
    pub path: PathBuf,
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// Each line was a pair, `chosen` and `rejected`: the rows stand in twos, and the first of two is the chosen one.
    pub paired: bool,
}

/// A prompt and a response to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The line in the file, from 1.
    pub line: usize,
    pub prompt: Text,
    pub completion: Text,
    /// The outcome's reward; a `label` is 1 or 0.
    pub reward: Option<f64>,
    /// Log-prob of each completion token under the policy that sampled it.
    pub behavior_logps: Option<Vec<f64>>,
    /// Process rewards.
    pub step_rewards: Vec<StepReward>,
    /// Whether the response was cut off: it has no end token.
    pub truncated: bool,
}

/// What is said, as it was given.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// Text, taken as it is.
    Plain(String),
    /// Messages for the chat template: objects with `role` and `content`.
    Messages(Vec<Value>),
    /// Token ids, used as they are.
    Ids(Vec<u32>),
}

impl Text {
    /// As a row's `prompt` has it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Plain(text) => text.as_str().into(),
            Self::Messages(messages) => messages.clone().into(),
            Self::Ids(ids) => ids.clone().into(),
        }
    }
}

/// A process reward: `reward` on the last token before `end`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReward {
    /// Counts completion tokens, exclusive.
    pub end: usize,
    pub reward: f64,
}

impl RowFile {
    /// Reads a JSONL file.
    ///
    /// # Errors
    /// Names the file, the line and the field that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_lines(path)?;
        let mut rows = Vec::new();
        let mut paired = None;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let parsed = parse(line, index + 1, &mut paired);
            rows.extend(parsed.with_context(|| format!("{}:{}", path.display(), index + 1))?);
        }
        ensure!(!rows.is_empty(), "{}: has no rows", path.display());
        Ok(Self { path: path.to_owned(), rows, paired: paired == Some(true) })
    }

    /// Checks that the rows are responses one by one; `reader` is the method or the verb that takes no others.
    ///
    /// # Errors
    /// Names the line of a pair.
    pub fn need_responses(&self, reader: &str) -> Result<()> {
        match self.rows.first().filter(|_| self.paired) {
            None => Ok(()),
            Some(row) => bail!(
                "{}: a row with `chosen` and `rejected` is a pair, which only --method dpo takes; {reader} needs one \
                 `completion` a row",
                self.place(row)
            ),
        }
    }

    /// `FILE:LINE`, to begin an error with.
    pub fn place(&self, row: &Row) -> String {
        format!("{}:{}", self.path.display(), row.line)
    }
}

/// The rows of a line: a response, or a pair's two. `paired` is what the lines before it were, and stays so.
fn parse(line: &str, number: usize, paired: &mut Option<bool>) -> Result<Vec<Row>> {
    let fields: Map<String, Value> = serde_json::from_str(line).map_err(|error| json_error(line, &error))?;
    let fields = Fields(&fields);
    let is_pair = ["chosen", "chosen_ids", "rejected", "rejected_ids"].iter().any(|name| fields.has(name));
    ensure!(
        *paired.get_or_insert(is_pair) == is_pair,
        "is {} among {}; a file has either pairs (`chosen` and `rejected`) or responses (`completion`)",
        if is_pair { "a pair" } else { "a response" },
        if is_pair { "responses" } else { "pairs" },
    );
    if is_pair {
        return fields.pair(number);
    }
    let (prompt, completion) = match fields.array("messages")? {
        Some(messages) => from_messages("messages", messages)?,
        None => (fields.prompt()?, fields.response(["completion", "response"])?),
    };
    let step_rewards = fields.step_rewards()?;
    Ok(vec![Row {
        line: number,
        prompt,
        completion,
        reward: fields.reward()?,
        behavior_logps: fields.numbers("behavior_logps")?,
        step_rewards,
        truncated: fields.truncated()?,
    }])
}

/// The last message is the completion, what comes before it the prompt.
fn from_messages(field: &str, messages: &[Value]) -> Result<(Text, Text)> {
    let Some((last, prompt)) = messages.split_last() else { bail!("field `{field}`: is empty") };
    ensure!(!prompt.is_empty(), "field `{field}`: has only one message; there is no prompt before it");
    let role = last.get("role").and_then(Value::as_str);
    ensure!(role == Some("assistant"), "field `{field}`: the last message is not the assistant's");
    Ok((check_messages(field, prompt)?, completion_of(last, field)?))
}

pub(super) fn check_messages(field: &str, messages: &[Value]) -> Result<Text> {
    ensure!(!messages.is_empty(), "field `{field}`: is empty");
    for (index, message) in messages.iter().enumerate() {
        for part in ["role", "content"] {
            let text = message.get(part).and_then(Value::as_str);
            ensure!(text.is_some(), "field `{field}`[{index}]: has no text as `{part}`");
        }
    }
    Ok(Text::Messages(messages.to_vec()))
}

fn completion_of(message: &Value, field: &str) -> Result<Text> {
    let content = message.get("content").and_then(Value::as_str);
    Ok(Text::Plain(content.with_context(|| format!("field `{field}`: has no text as `content`"))?.to_owned()))
}

/// What is wrong with a line that is not JSON; a NaN or an infinity, which some writers leave in, by its field.
fn json_error(line: &str, error: &serde_json::Error) -> anyhow::Error {
    let before = line.get(..error.column().min(line.len())).unwrap_or(line);
    let field = before.rsplit_once("\":").and_then(|(name, _)| name.rsplit_once('"')).map(|(_, name)| name);
    let value = before.rsplit([':', ',', '[']).next().unwrap_or_default().trim();
    let number = ["N", "I", "-I"].iter().any(|start| value.starts_with(start));
    match field {
        Some(field) if number || error.to_string().starts_with("number out of range") => {
            anyhow::anyhow!("field `{field}`: is not a finite number")
        }
        _ => anyhow::anyhow!("is not a JSON object: {error}"),
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn array(&self, name: &str) -> Result<Option<&'a Vec<Value>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        Ok(Some(value.as_array().with_context(|| format!("field `{name}`: is not a list"))?))
    }

    fn ids(&self, name: &str) -> Result<Option<Text>> {
        let Some(values) = self.array(name)? else { return Ok(None) };
        let id = |(index, value): (usize, &Value)| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            id.with_context(|| format!("field `{name}`[{index}]: {value} is not a token id"))
        };
        Ok(Some(Text::Ids(values.iter().enumerate().map(id).collect::<Result<_>>()?)))
    }

    fn prompt(&self) -> Result<Text> {
        if let Some(ids) = self.ids("prompt_ids")? {
            return Ok(ids);
        }
        match self.get("prompt") {
            Some(Value::String(text)) => Ok(Text::Plain(text.clone())),
            Some(Value::Array(messages)) => check_messages("prompt", messages),
            Some(_) => bail!("field `prompt`: is neither text nor a list of messages"),
            None => bail!("field `prompt`: is missing (or `prompt_ids`, or `messages`)"),
        }
    }

    /// A response by its ids, or as text by its name or that name's alias.
    fn response(&self, [name, alias]: [&str; 2]) -> Result<Text> {
        let ids_name = format!("{name}_ids");
        if let Some(ids) = self.ids(&ids_name)? {
            ensure!(ids != Text::Ids(Vec::new()), "field `{ids_name}`: is empty");
            return Ok(ids);
        }
        let missing = if name == alias {
            format!("field `{name}`: is missing (or `{ids_name}`)")
        } else {
            format!("field `{name}`: is missing (or `{ids_name}`, `{alias}`, `messages`)")
        };
        let name = if self.has(name) { name } else { alias };
        let response = match self.get(name) {
            Some(Value::String(text)) => Text::Plain(text.clone()),
            Some(Value::Array(messages)) => match &messages[..] {
                [message] => completion_of(message, name)?,
                _ => bail!("field `{name}`: is a list of {} messages; one is expected", messages.len()),
            },
            Some(_) => bail!("field `{name}`: is not text"),
            None => bail!(missing),
        };
        ensure!(response != Text::Plain(String::new()), "field `{name}`: is empty");
        Ok(response)
    }

    /// A chosen response and a rejected one to the same prompt. Without a prompt of its own, both are whole
    /// conversations that begin with it.
    fn pair(&self, line: usize) -> Result<Vec<Row>> {
        let response_field =
            ["completion", "completion_ids", "response", "messages"].into_iter().find(|name| self.has(name));
        if let Some(name) = response_field {
            bail!("has `chosen` and `{name}`; a row is either a pair or a response");
        }
        ensure!(
            !self.truncated()?,
            "field `finish_reason`: a pair has two responses; give `chosen_ids` and `rejected_ids`, which get no end token"
        );
        let names = ["chosen", "rejected"];
        let conversation = |name| self.get(name).and_then(Value::as_array).filter(|messages| messages.len() > 1);
        let sides = match names.map(conversation) {
            [Some(chosen), Some(rejected)] if !self.has("prompt") && !self.has("prompt_ids") => {
                let (chosen, rejected) = (from_messages("chosen", chosen)?, from_messages("rejected", rejected)?);
                ensure!(
                    chosen.0 == rejected.0,
                    "fields `chosen` and `rejected`: differ before their last message; a pair has one prompt"
                );
                [chosen, rejected]
            }
            _ => {
                let prompt = self.prompt()?;
                [(prompt.clone(), self.response(["chosen"; 2])?), (prompt, self.response(["rejected"; 2])?)]
            }
        };
        let row = |(prompt, completion)| Row {
            line,
            prompt,
            completion,
            reward: None,
            behavior_logps: None,
            step_rewards: Vec::new(),
            truncated: false,
        };
        Ok(sides.into_iter().map(row).collect())
    }

    fn reward(&self) -> Result<Option<f64>> {
        match (self.get("reward"), self.get("label")) {
            (Some(reward), _) => Ok(Some(finite("field `reward`", reward)?)),
            (None, Some(Value::Bool(label))) => Ok(Some(f64::from(u8::from(*label)))),
            (None, Some(label)) => bail!("field `label`: {label} is neither true nor false"),
            (None, None) => Ok(None),
        }
    }

    fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(values) = self.array(name)? else { return Ok(None) };
        let number = |(index, value)| finite(&format!("field `{name}`[{index}]"), value);
        Ok(Some(values.iter().enumerate().map(number).collect::<Result<_>>()?))
    }

    fn step_rewards(&self) -> Result<Vec<StepReward>> {
        let Some(values) = self.array("step_rewards")? else { return Ok(Vec::new()) };
        let step = |(index, value): (usize, &Value)| {
            let place = format!("field `step_rewards`[{index}]");
            let end = value.get("end").and_then(Value::as_u64).and_then(|end| usize::try_from(end).ok());
            let end = end.with_context(|| format!("{place}: has no count of tokens as `end`"))?;
            let reward = value.get("reward").with_context(|| format!("{place}: has no `reward`"))?;
            Ok(StepReward { end, reward: finite(&place, reward)? })
        };
        values.iter().enumerate().map(step).collect()
    }

    fn truncated(&self) -> Result<bool> {
        match self.get("finish_reason") {
            None => Ok(false),
            Some(Value::String(reason)) if reason == "stop" => Ok(false),
            Some(Value::String(reason)) if reason == "length" => Ok(true),
            Some(other) => bail!("field `finish_reason`: {other} is neither \"stop\" nor \"length\""),
        }
    }
}

fn finite(place: &str, value: &Value) -> Result<f64> {
    let number = value.as_f64().filter(|number| number.is_finite());
    number.with_context(|| format!("{place}: {value} is not a finite number"))
}
