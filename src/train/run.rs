//! A run, from what the user gave to its result.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::inputs::Inputs;
use super::log::{MetricsLog, MetricsRow};
use super::logps::Scorer;
use super::models::Need;
use super::plan::Plan;
use super::rows::{Maker, Place, Rows};
use super::run_dir::RunDir;
use super::settings::TrainSettings;
use super::signs::Signs;
use super::trainer::{Saved, Trainer};
use super::watch::Watch;
use crate::device::{Device, Precision};
use crate::files::Record;
use crate::format::format_bytes;
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::sample::EvalSummary;

/// A run that is checked and ready.
pub struct Run {
    pub(super) inputs: Inputs,
    rows: Box<dyn Rows>,
    device: Device,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done; the result is in this directory.
    Finished(PathBuf),
    /// The user stopped it: after this step, of which a checkpoint was saved, or before there was one to save.
    Interrupted(Option<usize>),
}

/// Files that take long enough to read to say so before.
const LARGE: u64 = 1 << 30;

impl Run {
    /// Opens and checks everything that the settings name.
    ///
    /// # Errors
    /// Names the option, or the file, line and field, that is wrong.
    pub fn open(settings: TrainSettings) -> Result<Self> {
        let model = settings.config.model.clone();
        Self::open_on(settings, |_| model.open_device())
    }

    /// As [`Run::open`], on a device of the caller's in place of the one that the settings name.
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn open_on(settings: TrainSettings, device: impl FnOnce(Precision) -> Result<Device>) -> Result<Self> {
        settings.config.check()?;
        Self::open_with(settings, device, Need::Weights)
    }

    /// As [`Run::open_on`], of a run that is planned only: models need no weights, and where no data is named,
    /// micro-batches are assumed to be full (see [`Examples::assumed`](crate::data::Examples::assumed)).
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn open_to_plan(settings: TrainSettings, device: impl FnOnce(Precision) -> Result<Device>) -> Result<Self> {
        settings.config.check_to_plan()?;
        Self::open_with(settings, device, Need::Description)
    }

    fn open_with(
        settings: TrainSettings,
        device: impl FnOnce(Precision) -> Result<Device>,
        need: Need,
    ) -> Result<Self> {
        let inputs = Inputs::open(settings, need)?;
        let rows = inputs.rows()?;
        let device = device(inputs.config.model.weights.dtype.precision())?;
        Ok(Self { inputs, rows, device })
    }

    /// This run, with a share of the work on each of some ranks, who all have opened it. The first one reads and writes the
    /// run's directory.
    pub fn on_ranks(mut self, ranks: &Ranks) -> Self {
        self.inputs.ranks = ranks.clone();
        self
    }

    /// What the run takes.
    ///
    /// # Errors
    /// Where a single tensor is larger than the device can hold.
    pub fn plan(&self) -> Result<Plan> {
        self.plan_on(self.inputs.ranks.count())
    }

    /// What one of so many ranks that run it together takes.
    ///
    /// # Errors
    /// As [`Run::plan`].
    pub fn plan_on(&self, ranks: usize) -> Result<Plan> {
        Plan::of(&self.inputs, &*self.rows, &self.device, ranks)
    }

    /// Whether a run has begun in a directory, which `resume` then goes on with.
    pub fn has_begun_in(dir: &Path) -> bool {
        RunDir::is_run(dir)
    }

    /// Whether a process trains in a directory now.
    pub fn is_training_in(dir: &Path) -> bool {
        RunDir::is_held(dir)
    }

    /// Trains: from the start, or with `resume` from the newest whole checkpoint.
    ///
    /// # Errors
    /// Where a file cannot be read or written, the device fails, or a loss or gradient is not finite; the last
    /// checkpoint is kept then.
    pub fn train(self, resume: bool, watch: Watch) -> Result<Outcome> {
        let plan = self.plan()?;
        watch.say(&plan);
        self.rows.warnings().iter().for_each(|warning| watch.say(format_args!("warning: {warning}")));
        refuse_too_large(&plan)?;
        let Self { inputs, mut rows, device } = self;

        let files = inputs.files()?;
        if files.bytes() > LARGE {
            watch.say(format_args!("reading {} of models and rows, to know them again", format_bytes(files.bytes())));
        }
        let record = Record::new(TrainSettings::to_table(&inputs.config, &*inputs.objective)?, &files)?;
        let ranks = inputs.ranks.clone();
        ranks.agree(&record)?;
        let of_schedule: &[&str] = if inputs.config.optimizer.depends_on_length() { &["max_steps"] } else { &[] };
        let of_activations = inputs.config.steps.depend_on();
        let open = || match resume {
            true => {
                RunDir::reopen(inputs.output_dir(), &record, &[rows.depends_on(), of_schedule, of_activations].concat())
            }
            false => RunDir::create(inputs.output_dir(), &record),
        };
        let mut dir = ranks.is_first().then(open).transpose()?;
        let place = Place { device: &device, ranks: &ranks, models: &inputs.models, output_dir: inputs.output_dir() };
        if !rows.prepare(place, watch)? {
            dir.iter_mut().for_each(RunDir::keep);
            return Ok(Outcome::Interrupted(None));
        }
        let mut trainer = Trainer::new(inputs, &*rows, &device, dir)?;
        let reference = reference_beside(&mut trainer, &*rows, &device)?;
        train_on(&mut trainer, &mut *rows, reference, watch)
    }
}

fn refuse_too_large(plan: &Plan) -> Result<()> {
    ensure!(
        !plan.exceeds_device(),
        "the run takes {} and {} has {}; use smaller --tokens-per-micro-batch or --max-length",
        format_bytes(plan.peak_bytes),
        plan.device,
        format_bytes(plan.device_bytes.unwrap_or(0))
    );
    Ok(())
}

/// What scores for the reference while the run goes on, where its rows need that.
fn reference_beside(trainer: &mut Trainer, rows: &dyn Rows, device: &Device) -> Result<Option<Scorer>> {
    if rows.sampling().is_none() {
        return Ok(None);
    }
    let Trainer { objective, session, models, .. } = trainer;
    let checkpoint = models.reference.weights()?;
    let base = models.shares_base(objective.reference()).then(|| session.policy.network.base());
    let scorer = rows.scorer_beside(device, models.reference_source(Some(&checkpoint), base.as_ref()))?;
    Ok(scorer.map(|scorer| scorer.on_ranks(&trainer.ranks)))
}

/// The only training loop: rounds, each of steps, with evaluations and checkpoints between them.
fn train_on(
    trainer: &mut Trainer,
    rows: &mut dyn Rows,
    mut reference: Option<Scorer>,
    watch: Watch,
) -> Result<Outcome> {
    trainer.dir.iter_mut().for_each(RunDir::keep);
    let total_steps = rows.total_steps();
    let mut records = Records::open(trainer, rows.warnings())?;
    let done = trainer.done();
    let mut progress = watch.progress("train", total_steps, done);
    if trainer.owes_evaluation() {
        let Some(evaluation) = evaluate(trainer, &mut progress, watch)? else {
            return Ok(Outcome::Interrupted((done > 0).then_some(done)));
        };
        records.complete(done, &evaluation)?;
    }
    while trainer.done() < total_steps {
        let done = trainer.done();
        let Trainer { config, objective, session, models, tokenizer, ranks, .. } = &mut *trainer;
        let maker = Maker {
            ranks,
            session,
            reference: reference.as_mut(),
            objective: &**objective,
            models,
            tokenizer,
            output_dir: config.output_dir.as_deref().unwrap_or(Path::new(".")),
            watch,
            progress: &mut progress,
        };
        let Some(round) = rows.round(maker, done)? else {
            save_checkpoint(trainer, &records, &progress)?;
            return Ok(Outcome::Interrupted(Some(done)));
        };
        while trainer.done() < round.steps.end {
            let mut row = trainer.step(&round)?;
            let is_last = trainer.done() == total_steps;
            if trainer.is_evaluated(is_last) {
                row.extend(evaluate(trainer, &mut progress, watch)?.into_iter().flatten());
            }
            records.add(trainer.done(), &row, &progress)?;
            progress.advance(1, &summary(&row));

            let is_interrupted = trainer.ranks.any(watch.has_interrupted())?;
            if is_interrupted || (trainer.is_saved() && !is_last) {
                save_checkpoint(trainer, &records, &progress)?;
            }
            if is_interrupted {
                return Ok(Outcome::Interrupted(Some(trainer.done())));
            }
        }
    }
    save_checkpoint(trainer, &records, &progress)?;
    Ok(Outcome::Finished(trainer.save(Saved::Final, &progress)?))
}

/// What is written down of a run's steps, by the first rank, and what is said of them.
struct Records {
    log: Option<MetricsLog>,
    signs: Signs,
    /// What the next row has with it.
    warnings: Vec<String>,
}

impl Records {
    /// Behind the steps that are done; a run that begins begins with `warnings`.
    fn open(trainer: &Trainer, warnings: &[String]) -> Result<Self> {
        let mut signs = Signs::new(trainer.models.policy.config.vocab_size);
        let done = trainer.done();
        let open = |dir: &RunDir| MetricsLog::open(dir.path(), done, |row| signs.of_record(row));
        let log = trainer.dir.as_ref().map(open).transpose()?;
        Ok(Self { log, signs, warnings: if done == 0 { warnings.to_vec() } else { Vec::new() } })
    }

    fn add(&mut self, step: usize, row: &MetricsRow, progress: &Progress) -> Result<()> {
        let shown = self.signs.of_step(step, row);
        shown.iter().for_each(|sign| progress.note(&format!("warning: {sign}")));
        self.warnings.extend(shown);
        let warnings = std::mem::take(&mut self.warnings);
        self.log.as_mut().map_or(Ok(()), |log| log.add(step, row, &warnings))
    }

    fn complete(&mut self, step: usize, metrics: &MetricsRow) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.complete(step, metrics))
    }

    fn sync(&self) -> Result<()> {
        self.log.as_ref().map_or(Ok(()), MetricsLog::sync)
    }
}

/// The metrics of an evaluation; `None` where it was interrupted.
fn evaluate(trainer: &mut Trainer, progress: &mut Progress, watch: Watch) -> Result<Option<MetricsRow>> {
    let Some(EvalSummary { accuracy, problems, .. }) = trainer.evaluate(watch)? else { return Ok(None) };
    progress.note(&format!("step {}: {:.2} % right", trainer.done(), 100.0 * accuracy));
    Ok(Some(vec![("eval/accuracy", accuracy), ("eval/problems", problems as f64)]))
}

/// A checkpoint, and before it the rows that it relies on: a power cut leaves both, or neither.
fn save_checkpoint(trainer: &mut Trainer, records: &Records, progress: &Progress) -> Result<()> {
    records.sync()?;
    trainer.save(Saved::Checkpoint, progress)?;
    Ok(())
}

/// A step in a line: of what it reports, what tells most, first the loss.
fn summary(row: &MetricsRow) -> String {
    let shown = |name: &str, text: &dyn Fn(f64) -> String| {
        row.iter().find(|(metric, _)| *metric == name).map(|(_, value)| text(*value))
    };
    let parts = [
        shown("loss", &|loss| format!("loss {loss:.4}")),
        shown("rewards/mean", &|reward| format!("reward {reward:.3}")),
        shown("log_ratio", &|log_ratio| format!("log ratio {log_ratio:.3}")),
        shown("learning_rate", &|rate| format!("learning rate {rate:.2e}")),
        shown("tokens_per_second", &|speed| format!("{speed:.0} tokens/s")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
