//! The seam between the methods and everything else: (log-probs, values, batch) -> (their gradients, statistics).
//!
//! A method is a file here and its kernel. The model, the LM head, the optimizer and the training loop know none.

mod dqo;
mod ppo;
mod sft;

pub use dqo::{Dqo, PolicyTarget, Tail};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTotals {
    pub sequences: usize,
    /// Response tokens.
    pub tokens: usize,
}

/// What a method reports of a step, by the names of `metrics.jsonl`.
pub type Metrics = Vec<(&'static str, f64)>;

/// A training method.
pub trait Objective {
    /// Whether it trains a value network.
    fn uses_value(&self) -> bool;

    /// Whether it needs the reference policy's log-probs.
    fn uses_reference(&self) -> bool;

    /// Whether every row must have a reward.
    fn uses_reward(&self) -> bool;

    /// Numbers that it writes for each sequence.
    fn statistics(&self) -> usize;

    /// Writes the gradients of the step's loss with respect to `seam.logp` and the values, and the statistics.
    fn gradients(&self, seam: Seam);

    /// The metrics of a step; `statistics` holds the rows of all its sequences.
    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics;
}
