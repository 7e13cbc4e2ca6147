//! How tokens are drawn.

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::objective::range::{MOST, count};

/// The settings of a draw; each cut looks at what the ones before it have left, in this order.
#[derive(Args, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingSettings {
    /// The temperature; 0: always the most likely token
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f64,
    /// Only the most likely tokens, this many; 0: off
    #[arg(long, default_value_t = 16)]
    pub top_k: u32,
    /// Only the most likely tokens that together have this probability; 1: off
    #[arg(long, default_value_t = 0.9)]
    pub top_p: f64,
    /// Only tokens with at least this probability; 0: off
    #[arg(long, default_value_t = 0.01)]
    pub min_prob: f64,
    /// Tokens of a response at most
    #[arg(long, default_value_t = 512)]
    pub max_new_tokens: usize,
}

impl SamplingSettings {
    /// Always the most likely token.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_prob: 0.0, max_new_tokens }
    }

    /// Draws from the whole distribution: the log-probs of the draws are those of the policy.
    pub fn whole_distribution(max_new_tokens: usize) -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_prob: 0.0, max_new_tokens }
    }

    /// Checks what no type says.
    ///
    /// # Errors
    /// Names the option that is out of its range.
    pub fn check(&self) -> Result<()> {
        let unit = 0.0..=1.0;
        let ranges = [
            // Beyond, its inverse is nothing or infinite in f32: neither is drawn as asked.
            ("--temperature", self.temperature, self.temperature == 0.0 || (1e-6..=1e6).contains(&self.temperature)),
            ("--top-p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0),
            ("--min-prob", self.min_prob, unit.contains(&self.min_prob)),
        ];
        for (name, value, allowed) in ranges {
            ensure!(allowed, "{name} is {value}, which is out of its range");
        }
        count("--max-new-tokens", self.max_new_tokens, MOST)
    }
}
