//! Rows that a file gives: read, selected, and scored by the reference before the first step.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::config::TrainConfig;
use super::course::{Course, CourseSettings, MicroBatch, StepRoom};
use super::logps::{Scorer, Scoring};
use super::models::Models;
use super::reference::{Origin, ReferenceLogps, ReferenceStore, Scorers};
use super::rows::{Known, Maker, Outlook, Place, Round, Rows};
use super::selection::Selection;
use super::source::Source;
use super::watch::Watch;
use crate::data::{AssumedRows, Example, Examples, RowFile, Tokenizer};
use crate::device::Device;
use crate::format::format_bytes;
use crate::model::WeightOptions;
use crate::objective::{Metrics, Objective, Probes, TrainsOn, Truncated};
use crate::progress::titled;
use crate::sample::Sizes;

/// The rows of a file.
pub struct Offline {
    path: PathBuf,
    /// Everything that the reference scores: the rows' examples, then those of the probes.
    examples: Vec<Example>,
    /// What a batch is made of: each row's examples, by number.
    rows: Vec<Vec<usize>>,
    probes: Option<Probes>,
    settings: CourseSettings,
    room: StepRoom,
    weights: WeightOptions,
    has_reference: bool,
    /// Whether the method compares the responses to a prompt.
    compares: bool,
    /// The factor of process rewards.
    process_scale: f64,
    reference: Option<ReferenceLogps>,
    outlook: Outlook,
    warnings: Vec<String>,
    metrics: Metrics,
}

/// Weights whose hash is slow enough to say so before.
const LARGE: u64 = 1 << 30;

impl Offline {
    /// Reads and checks the rows, or assumes rows that fill their micro-batches where a plan names no data.
    ///
    /// # Errors
    /// Names the option, or the file, line and field, that is wrong.
    pub fn open(
        config: &TrainConfig,
        objective: &dyn Objective,
        models: &Models,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let context = models.context();
        let max_length = config.steps.max_length;
        let (file, built) = match &config.data {
            Some(path) => {
                let file = RowFile::read_with(path, &config.columns)?;
                let built = Examples::build(&file, tokenizer, models.policy.config.limits(), max_length)?;
                (file, built)
            }
            None => assumed(config, objective, max_length.min(context)),
        };
        let cut_responses = built.cut;
        let selection = Selection::new(&file, built.examples, objective, config.seed)?;
        let Selection { mut examples, rows, left_out, warnings } = selection;
        check_lengths(&examples, &file, context)?;
        if config.data.is_some() {
            objective.check_examples(&examples).with_context(|| file.name().to_string())?;
        }
        let settings = course_settings(config, objective);
        let mut probes = {
            let course = Course::new(&examples, &rows, None, settings);
            let mut steps = (0..course.total_steps).map(|done| course.members(done));
            objective.probes(&examples, &mut steps, max_length.min(context))
        };
        let outlook = Outlook {
            assumed: config.data.is_none().then(|| assumption(&examples)),
            rows: config.data.is_some().then_some(rows.len()),
            cut_responses,
            dropped_rows: left_out,
            rounds: None,
        };
        examples.extend(probes.iter_mut().flat_map(|probes| std::mem::take(&mut probes.examples)));
        let room = Course::new(&examples, &rows, probes.as_ref(), settings).room();
        Ok(Self {
            path: file.path,
            examples,
            rows,
            probes,
            settings,
            room,
            weights: config.model.weights,
            has_reference: objective.reference().is_some(),
            compares: objective.trains_on() == TrainsOn::Compared,
            process_scale: match objective.trains_on() {
                TrainsOn::Rewarded { process_scale } => process_scale,
                _ => 0.0,
            },
            reference: None,
            outlook,
            warnings,
            metrics: Metrics::new(),
        })
    }

    fn course(&self) -> Course<'_> {
        Course::new(&self.examples, &self.rows, self.probes.as_ref(), self.settings)
    }
}

fn course_settings(config: &TrainConfig, objective: &dyn Objective) -> CourseSettings {
    CourseSettings {
        batch_size: config.steps.batch_size,
        tokens_per_micro_batch: config.steps.tokens_per_micro_batch,
        length: config.steps.length(),
        seed: config.seed,
        bootstrap: objective.truncated() == Truncated::Bootstrap,
    }
}

/// At most a batch of rows, of a micro-batch that is full.
fn assumed(config: &TrainConfig, objective: &dyn Objective, max_length: usize) -> (RowFile, Examples) {
    let sequences_per_row = objective.trains_on().sequences_per_row();
    let (rows, tokens) = (config.steps.batch_size, config.steps.tokens_per_micro_batch);
    let built = Examples::assumed(AssumedRows { rows, sequences_per_row, tokens, max_length });
    (RowFile { path: "assumed rows".into(), rows: Vec::new(), paired: sequences_per_row == 2 }, built)
}

fn assumption(examples: &[Example]) -> String {
    let longest = examples.iter().map(Example::len).max().unwrap_or(0);
    format!("no --data: the fullest micro-batch, of rows of {longest} tokens at most, half of each response")
}

fn check_lengths(examples: &[Example], file: &RowFile, context: usize) -> Result<()> {
    for example in examples {
        ensure!(
            example.len() <= context,
            "{}:{}: has {} tokens, and the model computes at most {context}; set --max-length {context}",
            file.name(),
            example.line,
            example.len()
        );
    }
    Ok(())
}

impl Rows for Offline {
    fn path(&self) -> &Path {
        &self.path
    }

    fn total_steps(&self) -> usize {
        self.course().total_steps
    }

    fn room(&self) -> StepRoom {
        self.room
    }

    fn sampling(&self) -> Option<Sizes> {
        None
    }

    fn outlook(&self) -> Outlook {
        self.outlook.clone()
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The steps decide the probes, which the reference scores before the first one.
    fn depends_on(&self) -> &'static [&'static str] {
        if self.probes.is_some() { &["max_steps"] } else { &[] }
    }

    fn scorer_before(&self, device: &Device, reference: Source) -> Result<Option<Scorer>> {
        let scoring =
            Scoring { storage: self.weights.storage(), tokens_per_micro_batch: self.settings.tokens_per_micro_batch };
        let scorer = || Scorer::new(device, reference, "reference", scoring, &self.examples);
        self.has_reference.then(scorer).transpose()
    }

    fn scorer_beside(&self, _: &Device, _: Source) -> Result<Option<Scorer>> {
        Ok(None)
    }

    /// The reference's log-probs, where the method needs them: those that an earlier run kept, or new ones.
    fn prepare(&mut self, place: Place, watch: Watch) -> Result<bool> {
        if !self.has_reference {
            return Ok(true);
        }
        let mut progress = watch.progress(titled("reference", &self.path), self.examples.len(), 0);
        let store = ReferenceStore { run: place.output_dir, data: &self.path, examples: &self.examples };
        let checkpoint = place.models.reference.weights()?;
        let source = place.models.reference_source(Some(&checkpoint), None);
        // Of the first rank, which looks for what is known.
        let mut origin = None;
        let known = place.ranks.of_first(|| {
            let kept = store.of_run(|line| progress.note(line))?;
            if kept.is_some() {
                return Ok(kept);
            }
            if checkpoint.bytes() > LARGE {
                let size = format_bytes(checkpoint.bytes());
                progress
                    .note(&format!("reference log-probs: reading {size} of weights, to tell whether they are known"));
            }
            let scorers = Scorers {
                device: place.device,
                weights: self.weights,
                tokens_per_micro_batch: self.settings.tokens_per_micro_batch,
            };
            let origin = origin.insert(Origin::new(source, &checkpoint, &self.examples, scorers));
            store.find(origin, |line| progress.note(line))
        })?;
        if known.is_some() {
            self.reference = known;
            return Ok(true);
        }
        let scorer = self.scorer_before(place.device, source)?.context("the reference has a scorer")?;
        let finished = |count| {
            progress.advance(count, "");
            !watch.has_interrupted()
        };
        let mut scorer = scorer.on_ranks(place.ranks);
        let Some(logps) = ReferenceLogps::compute(&mut scorer, &self.examples, finished)? else {
            return Ok(false);
        };
        if let Some(origin) = origin {
            store.keep(&logps, &origin, |line| progress.note(line))?;
        }
        self.reference = Some(logps);
        Ok(true)
    }

    fn round(&mut self, _: Maker, _: usize) -> Result<Option<Round<'_>>> {
        let course = self.course();
        Ok(Some(Round {
            steps: 0..course.total_steps,
            epochs_before: 0.0,
            steps_per_epoch: course.steps_per_epoch as f64,
            course,
            known: self,
            reference: self.reference.as_ref(),
            path: &self.path,
            metrics: &self.metrics,
        }))
    }
}

impl Known for Offline {
    fn rollout(&self, micro_batch: &MicroBatch) -> Vec<f64> {
        let mut rows = Vec::new();
        for (&number, sequence) in micro_batch.examples.iter().zip(&micro_batch.sequences) {
            let example = sequence.example;
            let last = example.completion_ids.len() - 1;
            let of_reference = self.reference.as_ref().map(|reference| reference.of(number));
            for t in 0..=last {
                let logp_ref = of_reference.map_or(0.0, |logps| logps[t]);
                let logp_mu = example.behavior_logps.as_ref().map_or(logp_ref, |logps| logps[t]);
                let step_reward = example.step_rewards.get(t).copied().unwrap_or(0.0);
                let outcome = if t == last { example.reward.unwrap_or(0.0) } else { 0.0 };
                let reward = outcome + self.process_scale * step_reward;
                let goes_on = f64::from(u8::from(t == last && sequence.bootstrapped));
                rows.extend([logp_ref, logp_mu, reward, if self.compares { example.advantage } else { goes_on }]);
            }
        }
        rows
    }
}
