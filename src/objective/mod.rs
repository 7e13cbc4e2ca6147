//! The seam between the methods and everything else: (log-probs, values, batch) -> (their gradients, statistics).
//!
//! A method is a file here and its kernel. The model, the LM head, the optimizer and the training loop know none.

mod dpo;
mod dqo;
mod dro;
mod kto;
mod ppo;
mod sft;

pub use dpo::Dpo;
pub use dqo::{Dqo, PolicyTarget, Tail};
pub use dro::Dro;
pub use kto::Kto;
pub use ppo::{Estimation, Ppo, Scored, whiten};
pub use sft::Sft;

use crate::data::DeviceBatch;
use crate::device::{Device, Tensor};

/// What a method sees of a micro-batch, and where it writes.
pub struct Seam<'a> {
    pub device: &'a Device,
    pub batch: &'a DeviceBatch,
    /// `[positions, 4]`: log pi_ref, log mu, reward, whether the response goes on behind its last action; for PPO what its
    /// rounds know.
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
    /// `[sequences]`: V behind the last action.
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
    /// The mean of `sum_t (log pi - log pi_ref)` over the step's mismatched pairs, by the policy before the step; 0 where
    /// it has none: its rows have one prompt, or the method does not ask for it.
    pub mismatched_log_ratio: f64,
}

/// What a method learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainsOn {
    /// Responses, whatever they are worth.
    Responses,
    /// The right responses alone: those with a reward above 0.5.
    RightResponses,
    /// Responses with a reward each, and process rewards where they have them.
    Rewarded,
    /// Responses that are right or wrong: their reward becomes 1 or 0.
    Labelled,
    /// Responses that the policy itself writes in the course of the run, graded.
    Sampled,
    /// Pairs of a chosen and a rejected response to one prompt; in a batch the two are neighbours, the chosen one first.
    Pairs,
}

impl TrainsOn {
    /// How many sequences a row of a batch is.
    pub fn sequences_per_row(self) -> usize {
        if self == Self::Pairs { 2 } else { 1 }
    }
}

/// What a method reports of a step, by the names of `metrics.jsonl`.
pub type Metrics = Vec<(&'static str, f64)>;

/// A training method.
pub trait Objective {
    /// Whether it trains a value network.
    fn uses_value(&self) -> bool;

    /// Whether it needs the reference policy's log-probs.
    fn uses_reference(&self) -> bool;

    /// What it learns from.
    fn trains_on(&self) -> TrainsOn;

    /// Whether it asks for [`StepTotals::mismatched_log_ratio`].
    fn uses_mismatched(&self) -> bool {
        false
    }

    /// Numbers that it writes for each sequence.
    fn statistics(&self) -> usize;

    /// Writes the gradients of the step's loss with respect to `seam.logp` and the values, and the statistics.
    fn gradients(&self, seam: Seam);

    /// The metrics of a step; `statistics` holds the rows of all its sequences.
    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics;
}

fn sigmoid(x: f64) -> f64 {
    log_sigmoid(x).exp()
}

/// `-log(1 + exp(-x))`, exact where exp overflows.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}
