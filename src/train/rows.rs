//! Where the rows of a run's steps come from: given in a file, or sampled by the policy itself round by round.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;

use super::course::{Course, MicroBatch, StepRoom};
use super::logps::Scorer;
use super::models::Models;
use super::reference::ReferenceLogps;
use super::session::Session;
use super::source::Source;
use super::watch::Watch;
use crate::data::Tokenizer;
use crate::device::Device;
use crate::objective::{Metrics, Objective};
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::sample::Sizes;

/// The source of a run's rows.
pub trait Rows {
    /// The file that the user named, or what stands for it.
    fn path(&self) -> &Path;

    /// Optimizer steps of the whole run.
    fn total_steps(&self) -> usize;

    /// The room that every step fits.
    fn room(&self) -> StepRoom;

    /// The room that sampling takes, where rows are sampled.
    fn sampling(&self) -> Option<Sizes>;

    /// What a plan says of them.
    fn outlook(&self) -> Outlook;

    /// What the user should know of the data before the run begins.
    fn warnings(&self) -> &[String];

    /// Settings that a run which goes on may not change here, though others may.
    fn depends_on(&self) -> &'static [&'static str];

    /// What scores for the reference before the networks are made, and is gone by then.
    ///
    /// # Errors
    /// Where it has no room.
    fn scorer_before(&self, device: &Device, reference: Source) -> Result<Option<Scorer>>;

    /// What scores for the reference beside the networks.
    ///
    /// # Errors
    /// Where it has no room.
    fn scorer_beside(&self, device: &Device, reference: Source) -> Result<Option<Scorer>>;

    /// Has the reference score what can be scored before the networks are made; whether it was not interrupted.
    ///
    /// # Errors
    /// Where a file cannot be read or written, or the device fails.
    fn prepare(&mut self, place: Place, watch: Watch) -> Result<bool>;

    /// The round of the step after `done` finished ones; `None` where it was interrupted while it was made.
    ///
    /// # Errors
    /// Where the device fails, a score is not finite, or a file cannot be written, read, or is another's.
    fn round(&mut self, maker: Maker, done: usize) -> Result<Option<Round<'_>>>;
}

/// Where the reference scores rows before a run, and for which run.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub device: &'a Device,
    pub ranks: &'a Ranks,
    pub models: &'a Models,
    pub output_dir: &'a Path,
}

/// Who makes a round: the networks as they are, and who watches.
pub struct Maker<'a> {
    pub ranks: &'a Ranks,
    pub session: &'a mut Session,
    /// What scores for the reference, where [`Rows::scorer_beside`] has made it.
    pub reference: Option<&'a mut Scorer>,
    pub objective: &'a dyn Objective,
    pub models: &'a Models,
    pub tokenizer: &'a Tokenizer,
    pub output_dir: &'a Path,
    pub watch: Watch<'a>,
    pub progress: &'a mut Progress,
}

/// What is known of a run's rows before it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// What is taken for granted where no data is named.
    pub assumed: Option<String>,
    /// Rows that are trained on, where they are known.
    pub rows: Option<usize>,
    /// Responses that lose their end to `--max-length`.
    pub cut_responses: usize,
    /// Rows of the data that no batch has.
    pub dropped_rows: usize,
    /// Rounds of sampling and training, of an online method, where they are known.
    pub rounds: Option<usize>,
}

/// The steps over some rows: over all of a file, or over those that were sampled together.
pub struct Round<'a> {
    pub course: Course<'a>,
    /// Its steps, counted over the run.
    pub steps: Range<usize>,
    /// Passes over the data before it.
    pub epochs_before: f64,
    /// How many of its steps make one pass.
    pub steps_per_epoch: f64,
    pub known: &'a dyn Known,
    /// By the reference, of all examples, where it has scored them before.
    pub reference: Option<&'a ReferenceLogps>,
    /// Where its rows are.
    pub path: &'a Path,
    /// What is known of the round as a whole.
    pub metrics: &'a Metrics,
}

/// What is known of a round's actions before its first step.
pub trait Known {
    /// Of a micro-batch's actions, as [`Seam::rollout`](crate::objective::Seam::rollout) holds it.
    fn rollout(&self, micro_batch: &MicroBatch) -> Vec<f64>;
}
