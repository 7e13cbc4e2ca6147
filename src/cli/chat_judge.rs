//! A value network beside a conversation: V along each answer.

use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::data::{Capacity, Example, Tokenizer};
use crate::device::Device;
use crate::model::{ModelFiles, ModelOptions, is_adapter};
use crate::train::{Scoring, Source, ValueScorer};

/// A value network with the memory to look at an answer.
pub struct Judge(ValueScorer);

/// What it says of an answer: V of the state before each token.
pub struct Judged {
    /// Of the state before the last token, as there is none after it.
    pub end: f64,
    /// The lowest, and the text of the token that it stands before.
    pub lowest: f64,
    pub before: String,
}

impl Judge {
    /// The value network in `value`, or where that has adapters, these over the model of `options`; with room for conversations
    /// of `tokens`, the answer included.
    ///
    /// # Errors
    /// Names the option or the file that is wrong; where the device has no room.
    pub fn open(
        value: &str,
        options: &ModelOptions,
        policy_vocab: usize,
        tokens: usize,
        device: &Device,
    ) -> Result<Self> {
        let option = format!("--value {value}");
        let dir = Path::new(value);
        let files = match options.model.as_deref() {
            Some(base) if is_adapter(dir) => ModelFiles::open(base, Some(dir))?,
            _ => ModelFiles::open(value, None)?,
        };
        let ModelFiles { dir, config, adapter, .. } = files;
        match &adapter {
            Some(adapter) => adapter.need_value_network(&option)?,
            None => config.need_value_network(&option)?,
        }
        ensure!(
            config.vocab_size == policy_vocab,
            "{option}: its vocabulary of {} is not that of --model, {policy_vocab}",
            config.vocab_size
        );
        let context = config.context_length;
        ensure!(
            tokens <= context,
            "{option}: computes {context} tokens, and a conversation may have {tokens}; set --max-length"
        );
        let checkpoint = options.weights.open(&dir)?;
        let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: adapter.as_ref(), base: None };
        let scoring = Scoring { storage: options.weights.storage(), tokens_per_micro_batch: tokens };
        let capacity = Capacity { tokens, positions: tokens, sequences: 1, longest: tokens };
        Ok(Self(ValueScorer::with_capacity(device, source, scoring, capacity)?))
    }

    /// Looks at an answer of a token or more.
    ///
    /// # Errors
    /// Where the device fails or a value is not finite.
    pub fn look(&mut self, prompt_ids: Vec<u32>, completion_ids: Vec<u32>, tokenizer: &Tokenizer) -> Result<Judged> {
        let pieces = tokenizer.pieces(&completion_ids)?;
        let values = self.0.score(&[Example::of_ids(prompt_ids, completion_ids)], |_| {})?.concat();
        let places = values.iter().copied().enumerate();
        let (place, lowest) = places.min_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or((0, f64::NAN));
        let end = values.last().copied().unwrap_or(f64::NAN);
        Ok(Judged { end, lowest, before: pieces.into_iter().nth(place).unwrap_or_default() })
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { end, lowest, before } = self;
        write!(f, "[V {end:.3} at the end, lowest {lowest:.3} before {before:?}]")
    }
}
