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
use crate::model::Checkpoint;
use crate::progress::Progress;
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
        let device = device(inputs.config.model.dtype.precision())?;
        Ok(Self { inputs, rows, device })
    }

    /// What the run takes.
    ///
    /// # Errors
    /// Where a single tensor is larger than the device can hold.
    pub fn plan(&self) -> Result<Plan> {
        Plan::of(&self.inputs, &*self.rows, &self.device)
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
        let of_schedule: &[&str] = if inputs.config.optimizer.depends_on_length() { &["max_steps"] } else { &[] };
        let mut dir = match resume {
            true => RunDir::reopen(inputs.output_dir(), &record, &[rows.depends_on(), of_schedule].concat())?,
            false => RunDir::create(inputs.output_dir(), &record)?,
        };
        if !rows.prepare(Place { device: &device, models: &inputs.models, output_dir: dir.path() }, watch)? {
            dir.keep();
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
    let checkpoint = Checkpoint::open(&models.reference.dir)?;
    let base = models.shares_base(objective.reference()).then(|| session.policy.network.base());
    rows.scorer_beside(device, models.reference_source(Some(&checkpoint), base.as_ref()))
}

/// The only training loop: rounds, each of steps, with evaluations and checkpoints between them.
fn train_on(
    trainer: &mut Trainer,
    rows: &mut dyn Rows,
    mut reference: Option<Scorer>,
    watch: Watch,
) -> Result<Outcome> {
    trainer.dir.keep();
    let total_steps = rows.total_steps();
    let mut signs = Signs::new(trainer.models.policy.config.vocab_size);
    let mut log = MetricsLog::open(trainer.dir.path(), trainer.done(), |row| signs.of_record(row))?;
    let mut warnings = if trainer.done() == 0 { rows.warnings().to_vec() } else { Vec::new() };
    let mut progress = watch.progress("train", total_steps, trainer.done());
    if trainer.owes_evaluation() {
        let done = trainer.done();
        let Some(evaluation) = evaluate(trainer, &mut progress, watch)? else {
            return Ok(Outcome::Interrupted((done > 0).then_some(done)));
        };
        log.complete(done, &evaluation)?;
    }
    while trainer.done() < total_steps {
        let done = trainer.done();
        let Trainer { objective, session, models, tokenizer, dir, .. } = &mut *trainer;
        let maker = Maker {
            session,
            reference: reference.as_mut(),
            objective: &**objective,
            models,
            tokenizer,
            output_dir: dir.path(),
            watch,
            progress: &mut progress,
        };
        let Some(round) = rows.round(maker, done)? else {
            save_checkpoint(trainer, &log, &progress)?;
            return Ok(Outcome::Interrupted(Some(done)));
        };
        while trainer.done() < round.steps.end {
            let mut row = trainer.step(&round)?;
            let is_last = trainer.done() == total_steps;
            if trainer.is_evaluated(is_last) {
                row.extend(evaluate(trainer, &mut progress, watch)?.into_iter().flatten());
            }
            let shown = signs.of_step(trainer.done(), &row);
            shown.iter().for_each(|sign| progress.note(&format!("warning: {sign}")));
            warnings.extend(shown);
            log.add(trainer.done(), &row, &std::mem::take(&mut warnings))?;
            progress.advance(1, &summary(&row));

            let is_interrupted = watch.has_interrupted();
            if is_interrupted || (trainer.is_saved() && !is_last) {
                save_checkpoint(trainer, &log, &progress)?;
            }
            if is_interrupted {
                return Ok(Outcome::Interrupted(Some(trainer.done())));
            }
        }
    }
    save_checkpoint(trainer, &log, &progress)?;
    Ok(Outcome::Finished(trainer.save(Saved::Final, &progress)?))
}

/// The metrics of an evaluation; `None` where it was interrupted.
fn evaluate(trainer: &mut Trainer, progress: &mut Progress, watch: Watch) -> Result<Option<MetricsRow>> {
    let Some(EvalSummary { accuracy, problems, .. }) = trainer.evaluate(watch)? else { return Ok(None) };
    progress.note(&format!("step {}: {:.2} % right", trainer.done(), 100.0 * accuracy));
    Ok(Some(vec![("eval/accuracy", accuracy), ("eval/problems", problems as f64)]))
}

/// A checkpoint, and before it the rows that it relies on: a power cut leaves both, or neither.
fn save_checkpoint(trainer: &mut Trainer, log: &MetricsLog, progress: &Progress) -> Result<()> {
    log.sync()?;
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
