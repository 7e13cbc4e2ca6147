//! The seam: what a method sees of a step, what it gives back, and what it asks of the trainer.

use anyhow::Result;

use super::options::{ReferenceOptions, Truncated, ValueOptions};
use crate::data::{DeviceBatch, Example};
use crate::device::{Device, Tensor};

/// What a method sees of a micro-batch, and where it writes.
pub struct Seam<'a> {
    pub device: &'a Device,
    pub batch: &'a DeviceBatch,
    /// `[positions, 4]`: log pi_ref, log mu, reward, whether the response goes on after its last action, or of responses that are
    /// [compared](TrainsOn::Compared) their advantage; of a method that samples its own responses what it
    /// [estimated](Online::estimate).
    pub rollout: &'a Tensor,
    /// `[positions]`: log pi of the actions.
    pub logp: &'a Tensor,
    /// The value network's side, where the method has one.
    pub value: Option<ValueSeam<'a>>,
    /// `[positions]`
    pub dlogp: &'a mut Tensor,
    /// `[sequences of the step, Objective::statistics]`
    pub statistics: &'a mut Tensor,
    /// Where this micro-batch's sequences start in `statistics`.
    pub first_sequence: usize,
    pub totals: StepTotals,
}

/// The value network's part of the seam.
pub struct ValueSeam<'a> {
    /// `[positions]`: V of the states before the actions.
    pub value: &'a Tensor,
    /// `[sequences]`: V after the last action.
    pub bootstrap: &'a Tensor,
    /// `[positions]`
    pub dvalue: &'a mut Tensor,
}

/// The sizes of a whole optimizer step, however it is cut into micro-batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTotals {
    /// Rows of the batch: responses, or pairs of them.
    pub rows: usize,
    pub sequences: usize,
    /// Response tokens.
    pub tokens: usize,
}

/// What a method learns from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainsOn {
    /// Responses, whatever they are worth.
    Responses,
    /// The right responses alone: those with a reward above 0.5.
    RightResponses,
    /// Responses with a reward each, and process rewards, times `process_scale`, where they have them.
    Rewarded { process_scale: f64 },
    /// Responses with a reward each, by what they are worth beside the others to the same prompt: see
    /// [`Objective::advantages`].
    Compared,
    /// Responses that are right or wrong: their reward becomes 1 or 0.
    Labelled,
    /// Pairs of a chosen and a rejected response to one prompt, in a batch neighbours, the chosen one first: given, or made
    /// from rewarded responses, at most `max_per_prompt` a prompt.
    Pairs { max_per_prompt: usize },
}

impl TrainsOn {
    /// How many sequences a row of a batch is.
    pub fn sequences_per_row(self) -> usize {
        if matches!(self, Self::Pairs { .. }) { 2 } else { 1 }
    }
}

/// What a method reports of a step, by the names of `metrics.jsonl`.
pub type Metrics = Vec<(&'static str, f64)>;

/// A training method: from log-probs and values to their gradients.
pub trait Objective {
    /// As `--method` and messages have it.
    fn name(&self) -> &str;

    /// Its options, as a run's `config.toml` records them; a run that goes on must have the same.
    ///
    /// # Errors
    /// Where they cannot be written as TOML.
    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::new())
    }

    /// Checks its options, and sets those that follow from the batch size.
    ///
    /// # Errors
    /// Names the option that is out of its range.
    fn settle(&mut self, _batch_size: usize) -> Result<()> {
        Ok(())
    }

    /// What it learns from, unless it [samples](Objective::online) that itself.
    fn trains_on(&self) -> TrainsOn;

    /// Of a method that [compares](TrainsOn::Compared) responses: what each of a prompt's is worth beside the others, by their
    /// rewards.
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        rewards.to_vec()
    }

    /// What becomes of a response that was cut off.
    fn truncated(&self) -> Truncated {
        Truncated::Zero
    }

    /// Its value network's options, where it trains one.
    fn value_network(&self) -> Option<&ValueOptions> {
        None
    }

    /// Its reference's options, where it holds the policy against one.
    fn reference(&self) -> Option<&ReferenceOptions> {
        None
    }

    /// How it samples the responses that it learns from, where it does.
    fn online(&self) -> Option<&dyn Online> {
        None
    }

    /// Checks the responses that a file gives it.
    ///
    /// # Errors
    /// Says what they lack as a whole.
    fn check_examples(&self, _examples: &[Example]) -> Result<()> {
        Ok(())
    }

    /// Examples that policy and reference are to score before each step, beside those that it trains on. A step is given by
    /// the numbers of its examples, ascending; what is longer than `longest` tokens loses its end.
    fn probes(
        &self,
        _examples: &[Example],
        _steps: &mut dyn Iterator<Item = Vec<usize>>,
        _longest: usize,
    ) -> Option<Probes> {
        None
    }

    /// Before each step of a method with [probes](Objective::probes): `sum_t (log pi - log pi_ref)` of those of the step, by
    /// the policy before it.
    fn begin_step(&mut self, _log_ratios: &[f64]) {}

    /// Numbers that it writes for each sequence.
    fn statistics(&self) -> usize;

    /// Writes the gradients of the step's loss with respect to `seam.logp` and the values, and the statistics.
    ///
    /// # Errors
    /// Where it reads from a device that fails.
    fn gradients(&self, seam: Seam) -> Result<()>;

    /// The metrics of a step; `statistics` holds the rows of all its sequences.
    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics;
}

/// From a step, by the numbers of its examples, to the numbers of those that it wants scored.
pub type OfStep = dyn Fn(&[usize]) -> Vec<usize>;

/// Examples that are scored and not trained on.
pub struct Probes {
    /// All that any step wants; their numbers follow those of the run's own examples.
    pub examples: Vec<Example>,
    /// Which ones a step wants, given by the numbers of its examples: numbers, that may repeat.
    pub of_step: Box<OfStep>,
}

/// A method that samples the responses that it learns from, round by round.
pub trait Online {
    /// How large its rounds are.
    fn rounds(&self) -> RoundSizes;

    /// What is known of a round's actions before its first step, and what it reports of the round.
    fn estimate(&self, responses: &[Scored]) -> Estimates;
}

/// The sizes of an online method's rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundSizes {
    /// Responses that are sampled, graded and trained on.
    pub rollouts: usize,
    /// Responses to each problem.
    pub num_samples: usize,
    /// Passes over the responses.
    pub epochs: usize,
}

/// What is known of a sampled response of `n` tokens when its round begins, `n` numbers each.
#[derive(Clone, Copy)]
pub struct Scored<'a> {
    /// log pi of the policy that wrote it.
    pub logps_old: &'a [f64],
    /// log pi_ref.
    pub logps_ref: &'a [f64],
    /// V of the states before the tokens.
    pub values_old: &'a [f64],
    /// Of the whole response.
    pub reward: f64,
}

/// What [`Online::estimate`] makes of a round.
pub struct Estimates {
    /// Of every response token, response after response, what [`Seam::rollout`] holds.
    pub actions: Vec<[f64; 4]>,
    /// Of the round as a whole.
    pub metrics: Metrics,
}
