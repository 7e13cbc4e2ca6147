//! Rows as the networks see them: token ids, and a reward at each of the response's tokens.

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;

use super::limits::ModelLimits;
use super::rows::{Row, RowFile};
use super::tokenizer::Tokenizer;

/// A prompt and a response, as ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The line in the file, from 1.
    pub line: usize,
    pub prompt_ids: Vec<u32>,
    pub completion_ids: Vec<u32>,
    /// The outcome's reward, where the row has one.
    pub reward: Option<f64>,
    /// Process rewards by completion token; empty where the row has none.
    pub step_rewards: Vec<f64>,
    /// What it is worth beside the other responses to its prompt, where a method compares them.
    pub advantage: f64,
    /// Log-prob of each completion token under the policy that sampled it.
    pub behavior_logps: Option<Vec<f64>>,
    /// The response has no end: it was sampled up to a limit, or cut to `--max-length`.
    pub truncated: bool,
}

impl Example {
    /// A prompt and a response without anything that is known of them.
    pub fn of_ids(prompt_ids: Vec<u32>, completion_ids: Vec<u32>) -> Self {
        Self {
            line: 0,
            prompt_ids,
            completion_ids,
            reward: None,
            step_rewards: Vec::new(),
            advantage: 0.0,
            behavior_logps: None,
            truncated: false,
        }
    }

    /// Whether the response is right: its reward is above 0.5.
    pub fn is_right(&self) -> bool {
        self.reward.is_some_and(|reward| reward > 0.5)
    }

    /// The example with the first `room` tokens of its response.
    pub fn cut(mut self, room: usize) -> Self {
        self.completion_ids.truncate(room);
        self.step_rewards.truncate(room);
        if let Some(logps) = &mut self.behavior_logps {
            logps.truncate(room);
        }
        self.truncated = true;
        self
    }

    /// Tokens of prompt and response.
    pub fn len(&self) -> usize {
        self.prompt_ids.len() + self.completion_ids.len()
    }

    /// Never: a prompt and a response have at least a token each.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The examples of a file, without the rows whose prompt leaves no room for a response.
#[derive(Default)]
pub struct Examples {
    pub examples: Vec<Example>,
    /// Responses that lost their end to `--max-length`.
    pub cut: usize,
}

/// See [`Examples::assumed`].
#[derive(Clone, Copy, Debug)]
pub struct AssumedRows {
    /// Rows at most.
    pub rows: usize,
    /// 2 where a row is a pair, else 1.
    pub sequences_per_row: usize,
    /// Of the micro-batch.
    pub tokens: usize,
    /// Tokens of a sequence at most.
    pub max_length: usize,
}

impl Examples {
    /// Tokenizes a file's rows; what is longer than `max_length` tokens loses its end.
    ///
    /// # Errors
    /// Names the file, the line and the field that is wrong.
    pub fn build(file: &RowFile, tokenizer: &Tokenizer, limits: ModelLimits, max_length: usize) -> Result<Self> {
        let read = |(index, row)| {
            let completion_field = match (file.paired, index % 2) {
                (false, _) => "completion_ids",
                (true, 0) => "chosen_ids",
                (true, _) => "rejected_ids",
            };
            example(row, completion_field, tokenizer, limits).map_err(|error| error.context(file.place(row)))
        };
        let examples: Vec<Result<Example>> = file.rows.par_iter().enumerate().map(read).collect();
        let mut built = Self { examples: Vec::with_capacity(file.rows.len()), cut: 0 };
        for example in examples {
            let example = example?;
            if example.prompt_ids.len() >= max_length {
                continue;
            }
            let room = max_length - example.prompt_ids.len();
            if example.completion_ids.len() > room {
                built.cut += 1;
                built.examples.push(example.cut(room));
            } else {
                built.examples.push(example);
            }
        }
        let what = file.name();
        match limits.context_length {
            _ if !built.examples.is_empty() => Ok(built),
            context if context <= max_length => {
                bail!("{what}: every row's prompt fills the model's context of {context} tokens; shorten the prompts")
            }
            context => bail!(
                "{what}: every row's prompt has {max_length} tokens or more; raise --max-length, to {context} at most"
            ),
        }
    }

    /// Checks that every example fits the model's context.
    ///
    /// # Errors
    /// Names the first line that does not.
    pub fn check_context(&self, file: &RowFile, limits: ModelLimits) -> Result<()> {
        match self.examples.iter().find(|example| example.len() > limits.context_length) {
            None => Ok(()),
            Some(example) => bail!(
                "{}:{}: has {} tokens, and the model computes at most {}",
                file.name(),
                example.line,
                example.len(),
                limits.context_length
            ),
        }
    }

    /// Rows that fill a micro-batch, where there is no file: of the longest sequences, and one row that takes up the rest;
    /// half of each sequence is response. Each row has another prompt and is right.
    pub fn assumed(AssumedRows { rows, sequences_per_row, tokens, max_length }: AssumedRows) -> Self {
        let mut examples = Vec::new();
        let mut left = tokens;
        for row in 0..rows as u32 {
            if left == 0 {
                break;
            }
            // The last token is predicted only: it does not go in.
            let inputs = (left / sequences_per_row).min(max_length.max(2) - 1).max(1);
            let completion = inputs.div_ceil(2);
            let example = Example::of_ids(vec![row; inputs + 1 - completion], vec![0; completion]);
            let example = Example { reward: Some(1.0), ..example };
            examples.extend(std::iter::repeat_n(example, sequences_per_row));
            left = left.saturating_sub(sequences_per_row * inputs);
        }
        Self { examples, cut: 0 }
    }

    /// Tokens of the longest example.
    pub fn longest(&self) -> usize {
        self.examples.iter().map(Example::len).max().unwrap_or(0)
    }
}

fn example(row: &Row, completion_field: &str, tokenizer: &Tokenizer, limits: ModelLimits) -> Result<Example> {
    let prompt_ids = tokenizer.prompt(&row.prompt)?;
    ensure!(!prompt_ids.is_empty(), "field `prompt`: has no tokens; a response needs at least one before it");
    let completion_ids = tokenizer.completion(&row.completion, row.truncated)?;
    for (field, ids) in [("prompt_ids", &prompt_ids), (completion_field, &completion_ids)] {
        let place = |index| format!("field `{field}`[{index}]");
        limits.check_ids(ids, place, "were the rows made with another model?")?;
    }
    let tokens = completion_ids.len();
    if let Some(logps) = &row.behavior_logps {
        ensure!(
            logps.len() == tokens,
            "field `behavior_logps`: has {} entries and the completion {tokens} tokens",
            logps.len()
        );
    }
    let mut step_rewards = if row.step_rewards.is_empty() { Vec::new() } else { vec![0.0; tokens] };
    for (index, step) in row.step_rewards.iter().enumerate() {
        ensure!(
            (1..=tokens).contains(&step.end),
            "field `step_rewards`[{index}]: its end is {} and the completion has {tokens} tokens",
            step.end
        );
        step_rewards[step.end - 1] += step.reward;
    }
    let (line, reward, truncated) = (row.line, row.reward, row.truncated);
    let behavior_logps = row.behavior_logps.clone();
    let known = Example::of_ids(prompt_ids, completion_ids);
    Ok(Example { line, reward, step_rewards, behavior_logps, truncated, ..known })
}
