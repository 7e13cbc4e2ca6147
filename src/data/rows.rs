//! Rows of rollouts, as this project and other trainers write them: parsed and checked, nothing else.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::columns::Columns;
use super::lines::{for_each_row, no_slips};
use crate::files::input_name;

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
        Self::read_with(path, &Columns::default())
    }

    /// As [`RowFile::read`], where the file has names of its own for its fields.
    ///
    /// # Errors
    /// As [`RowFile::read`], and names the column that is not there.
    pub fn read_with(path: &Path, columns: &Columns) -> Result<Self> {
        let mut rows = Vec::new();
        let mut paired = None;
        for_each_row(path, columns, &ROW_FIELDS, |fields, number| {
            rows.extend(parse(&fields, number, &mut paired)?);
            Ok(())
        })?;
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

    /// The file as messages name it.
    pub fn name(&self) -> impl Display + '_ {
        input_name(&self.path)
    }

    /// `FILE:LINE`, to begin an error with.
    pub fn place(&self, row: &Row) -> String {
        format!("{}:{}", self.name(), row.line)
    }
}

/// The fields of a row.
pub const ROW_FIELDS: [&str; 21] = [
    "prompt",
    "completion",
    "response",
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "system",
    "chosen",
    "rejected",
    "prompt_ids",
    "completion_ids",
    "chosen_ids",
    "rejected_ids",
    "reward",
    "label",
    "answer",
    "behavior_logps",
    "step_rewards",
    "finish_reason",
];

/// Fields that other data sets have, near to ours as they are.
const OTHERS: [&str; 4] = ["labels", "prompt_id", "inputs", "outputs"];

/// The rows of a line: a response, or a pair's two. `paired` is what the lines before it were, and stays so.
fn parse(fields: &Map<String, Value>, number: usize, paired: &mut Option<bool>) -> Result<Vec<Row>> {
    no_slips(fields, &ROW_FIELDS, &OTHERS)?;
    let fields = Fields(fields);
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
    let (prompt, completion) = fields.prompt_and_response()?;
    let step_rewards = fields.step_rewards()?;
    Ok(vec![Row {
        line: number,
        prompt,
        completion,
        reward: fields.reward()?,
        behavior_logps: fields.behavior_logps()?,
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

    /// The prompt of a row and the response to it, in any of the forms that they are written in.
    fn prompt_and_response(&self) -> Result<(Text, Text)> {
        let forms = ["messages", "conversations", "instruction", "completion", "completion_ids", "response"];
        let forms: Vec<_> = forms.into_iter().filter(|name| self.has(name)).collect();
        match &forms[..] {
            ["messages"] => from_messages("messages", self.array("messages")?.map_or(&[][..], |messages| messages)),
            ["conversations"] => self.conversation(),
            ["instruction"] => self.instruction(),
            [first @ ("messages" | "conversations" | "instruction"), second, ..] => {
                bail!("has `{first}` and `{second}`; a row is written in one form")
            }
            _ => Ok((self.prompt()?, self.response(["completion", "response"])?)),
        }
    }

    /// As Alpaca has it: the instruction, and below it the input where there is one, is the user's message.
    fn instruction(&self) -> Result<(Text, Text)> {
        let text = |name: &str| match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => bail!("field `{name}`: is not text"),
        };
        let instruction = text("instruction")?.context("field `instruction`: is empty")?;
        let output = text("output")?.context("field `output`: is missing or empty")?;
        let asked = text("input")?.map_or(instruction.to_owned(), |input| format!("{instruction}\n{input}"));
        ensure!(!self.has("history"), "field `history`: is not read; write the whole conversation as `messages`");
        let system = text("system")?.map(|system| json!({ "role": "system", "content": system }));
        let prompt = system.into_iter().chain([json!({ "role": "user", "content": asked })]).collect();
        Ok((Text::Messages(prompt), Text::Plain(output.to_owned())))
    }

    /// As ShareGPT has it: `from` and `value` in place of `role` and `content`, and people are called `human` and `gpt`.
    fn conversation(&self) -> Result<(Text, Text)> {
        const FIELD: &str = "conversations";
        let message = |(index, message): (usize, &Value)| {
            let text = |names: [&str; 2]| names.iter().find_map(|name| message.get(name)).and_then(Value::as_str);
            let place = format!("field `{FIELD}`[{index}]");
            let from = text(["from", "role"]).with_context(|| format!("{place}: has no text as `from`"))?;
            let value = text(["value", "content"]).with_context(|| format!("{place}: has no text as `value`"))?;
            let role = match from {
                "human" | "user" => "user",
                "gpt" | "assistant" | "model" | "chatgpt" | "bing" | "bard" => "assistant",
                "system" => "system",
                other => bail!("{place}: `from` is {other:?}; there are human, gpt and system"),
            };
            Ok(json!({ "role": role, "content": value }))
        };
        let messages = self.array(FIELD)?.map_or(&[][..], |messages| messages);
        let messages: Vec<Value> = messages.iter().enumerate().map(message).collect::<Result<_>>()?;
        let system = self.get("system").and_then(Value::as_str).filter(|text| !text.is_empty());
        let system = system.map(|system| json!({ "role": "system", "content": system }));
        from_messages(FIELD, &system.into_iter().chain(messages).collect::<Vec<_>>())
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
        ensure!(
            sides[0].1 != sides[1].1,
            "fields `chosen` and `rejected`: are the same; a pair has a better and a worse one"
        );
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
            (Some(reward), Some(Value::Bool(label))) => {
                let value = finite("field `reward`", reward)?;
                ensure!(
                    (value > 0.5) == *label,
                    "fields `reward` and `label`: {reward} and {label} contradict each other; leave one out"
                );
                Ok(Some(value))
            }
            (Some(reward), None) => Ok(Some(finite("field `reward`", reward)?)),
            (None, Some(Value::Bool(label))) => Ok(Some(f64::from(u8::from(*label)))),
            (_, Some(label)) => bail!("field `label`: {label} is neither true nor false"),
            (None, None) => Ok(None),
        }
    }

    fn behavior_logps(&self) -> Result<Option<Vec<f64>>> {
        let Some(values) = self.array("behavior_logps")? else { return Ok(None) };
        let logp = |(index, value)| {
            let place = format!("field `behavior_logps`[{index}]");
            let logp = finite(&place, value)?;
            // Rounding may leave a little of a certain token's.
            ensure!(logp <= 1e-4, "{place}: {value} is above 0, and a log-prob never is; are these probabilities?");
            Ok(logp)
        };
        Ok(Some(values.iter().enumerate().map(logp).collect::<Result<_>>()?))
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
