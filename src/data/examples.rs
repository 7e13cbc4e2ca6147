//! Rows as the networks see them: token ids, and a reward at each of the response's tokens.

use anyhow::{Result, bail, ensure};

use super::rows::{Row, RowFile};
use super::tokenizer::Tokenizer;
use crate::model::ModelConfig;

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
    /// Log-prob of each completion token under the policy that sampled it.
    pub behavior_logps: Option<Vec<f64>>,
    /// The response has no end: it was sampled up to a limit, or cut to `--max-length`.
    pub truncated: bool,
}

impl Example {
    /// A prompt and a response without anything that is known of them.
    pub fn of_ids(prompt_ids: Vec<u32>, completion_ids: Vec<u32>) -> Self {
        let (reward, step_rewards, behavior_logps) = (None, Vec::new(), None);
        Self { line: 0, prompt_ids, completion_ids, reward, step_rewards, behavior_logps, truncated: false }
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

/// The examples of a file, and what became of the rows that did not fit.
#[derive(Default)]
pub struct Examples {
    pub examples: Vec<Example>,
    /// Responses that lost their end to `--max-length`.
    pub cut: usize,
    /// Lines of rows whose prompt leaves no room for a response.
    pub dropped: Vec<usize>,
}

impl Examples {
    /// Tokenizes a file's rows; what is longer than `max_length` tokens loses its end.
    ///
    /// # Errors
    /// Names the file, the line and the field that is wrong.
    pub fn build(file: &RowFile, tokenizer: &Tokenizer, config: &ModelConfig, max_length: usize) -> Result<Self> {
        let mut built = Self { examples: Vec::with_capacity(file.rows.len()), cut: 0, dropped: Vec::new() };
        for row in &file.rows {
            let example = example(row, tokenizer, config).map_err(|error| error.context(file.place(row)))?;
            if example.prompt_ids.len() >= max_length {
                built.dropped.push(row.line);
                continue;
            }
            let room = max_length - example.prompt_ids.len();
            if example.completion_ids.len() > room {
                built.cut += 1;
                built.examples.push(cut(example, room));
            } else {
                built.examples.push(example);
            }
        }
        ensure!(
            !built.examples.is_empty(),
            "{}: every row's prompt has {max_length} tokens or more; raise --max-length",
            file.path.display()
        );
        Ok(built)
    }

    /// Checks that every example fits the model's context.
    ///
    /// # Errors
    /// Names the first line that does not.
    pub fn check_context(&self, file: &RowFile, config: &ModelConfig) -> Result<()> {
        match self.examples.iter().find(|example| example.len() > config.context_length) {
            None => Ok(()),
            Some(example) => bail!(
                "{}:{}: has {} tokens, and the model computes at most {}",
                file.path.display(),
                example.line,
                example.len(),
                config.context_length
            ),
        }
    }

    /// Tokens of the longest example.
    pub fn longest(&self) -> usize {
        self.examples.iter().map(Example::len).max().unwrap_or(0)
    }
}

fn example(row: &Row, tokenizer: &Tokenizer, config: &ModelConfig) -> Result<Example> {
    let prompt_ids = tokenizer.prompt(&row.prompt)?;
    ensure!(!prompt_ids.is_empty(), "field `prompt`: has no tokens; a response needs at least one before it");
    let completion_ids = tokenizer.completion(&row.completion, row.truncated)?;
    for (field, ids) in [("prompt_ids", &prompt_ids), ("completion_ids", &completion_ids)] {
        if let Some((index, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= config.vocab_size) {
            bail!(
                "field `{field}`[{index}]: {id} is beyond the model's vocabulary of {}; \
                 were the rows made with another model?",
                config.vocab_size
            );
        }
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
    Ok(Example { line, prompt_ids, completion_ids, reward, step_rewards, behavior_logps, truncated })
}

/// An example whose response keeps its first `room` tokens.
fn cut(mut example: Example, room: usize) -> Example {
    example.completion_ids.truncate(room);
    example.step_rewards.truncate(room);
    if let Some(logps) = &mut example.behavior_logps {
        logps.truncate(room);
    }
    example.truncated = true;
    example
}
