//! The only training loop: steps, each of micro-batches, with evaluations and checkpoints between them.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::course::{Course, MicroBatch};
use super::log::{MetricsLog, MetricsRow};
use super::online::{Online, SampledRound};
use super::plan::Plan;
use super::reference::{Origin, ReferenceLogps, ReferenceStore};
use super::run::{Model, Outcome, Run};
use super::run_dir::{Best, ModelFiles, RunDir, State, load_state};
use super::schedule::Schedule;
use super::session::{Session, Source, Sources};
use crate::format::format_bytes;
use crate::grade::Grading;
use crate::kernels::SequenceSum;
use crate::model::Checkpoint;
use crate::objective::{Seam, StepTotals, ValueSeam};
use crate::progress::Progress;
use crate::sample::{EvalSummary, SamplingSettings, evaluate};

/// The steps over some rows: over all of an offline run, or over an online round.
struct Round<'a> {
    course: Course<'a>,
    /// Its steps, counted over the run.
    steps: Range<usize>,
    /// Passes over the data before it, and how many of its steps make one.
    epochs: (f64, f64),
    reference: Option<&'a ReferenceLogps>,
    sampled: Option<&'a SampledRound>,
}

impl<'a> Round<'a> {
    fn of_rows(course: Course<'a>, reference: Option<&'a ReferenceLogps>) -> Self {
        let (steps, epochs) = (0..course.total_steps, (0.0, course.steps_per_epoch as f64));
        Self { course, steps, epochs, reference, sampled: None }
    }

    fn of_sampled(online: &Online, sampled: &'a SampledRound) -> Self {
        let (number, course) = (sampled.number, online.course(sampled));
        let (steps, epochs) = (online.rounds.steps(number), online.rounds.epochs(number));
        Self { course, steps, epochs, reference: None, sampled: Some(sampled) }
    }
}

/// The online round of the step behind `done` finished ones; `None` where it was interrupted while it was sampled.
fn sample_round(
    online: &mut Online,
    session: &mut Session,
    done: usize,
    interrupt: &AtomicBool,
    progress: &mut Progress,
) -> Result<Option<SampledRound>> {
    let number = online.rounds.round_of(done) + 1;
    let go_on = || !interrupt.load(Ordering::Relaxed);
    let tick = |count, total| progress.advance(0, &format!("round {number}: {count} of {total} responses"));
    let round = online.round(session, done, go_on, tick)?;
    if let Some(round) = &round {
        progress.note(&format!("round {number}: {:.2} % right", 100.0 * round.accuracy()));
    }
    Ok(round)
}

impl Run {
    /// Trains: from the start, or with `resume` from the newest whole checkpoint. `interrupt` is looked at between
    /// steps.
    ///
    /// # Errors
    /// Where a file cannot be read or written, the device fails, or a loss or gradient is not finite; the last
    /// checkpoint is kept then.
    pub fn train(&self, resume: bool, interrupt: &AtomicBool) -> Result<Outcome> {
        let plan = self.plan()?;
        eprintln!("{plan}");
        self.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        self.train_as_planned(&plan, resume, interrupt, Progress::new)
    }

    /// As [`Run::train`] from the start, without a word on stderr.
    ///
    /// # Errors
    /// As [`Run::train`].
    pub fn train_quietly(&self, interrupt: &AtomicBool) -> Result<Outcome> {
        self.train_as_planned(&self.plan()?, false, interrupt, |_, _, _| Progress::silent())
    }

    fn train_as_planned(
        &self,
        plan: &Plan,
        resume: bool,
        interrupt: &AtomicBool,
        progress: impl Fn(&'static str, usize, usize) -> Progress,
    ) -> Result<Outcome> {
        ensure!(
            !plan.exceeds_device(),
            "the run takes {} and {} has {}; use smaller --tokens-per-micro-batch or --max-length",
            format_bytes(plan.peak_bytes),
            plan.device,
            format_bytes(plan.device_bytes.unwrap_or(0))
        );
        let output_dir = self.config.output_dir.as_deref().unwrap_or(Path::new("."));
        let dir =
            if resume { RunDir::reopen(output_dir, &self.config)? } else { RunDir::create(output_dir, &self.config)? };
        let reference = self.reference_logps(&dir, &progress)?;
        let (mut session, mut state) = self.session(&dir)?;
        let mut online = self.online_rounds(&dir, &mut session)?;
        let mut log = MetricsLog::open(dir.path(), state.step)?;

        let total_steps = self.total_steps();
        let schedule = Schedule::new(self.config.lr_scheduler_type, self.config.warmup_ratio, total_steps);
        let files = ModelFiles {
            policy_config: &self.model.config,
            value_config: &self.value.config,
            tokenizer: &self.model.dir,
            policy_adapter: self.adapters.policy().map(|adapter| &adapter.config),
            value_adapter: self.adapters.value().map(|adapter| &adapter.config),
            base: self.base_name()?,
        };
        let mut progress = progress("train", total_steps, state.step);
        while state.step < total_steps {
            let sampled = match &mut online {
                Some(online) => {
                    let Some(round) = sample_round(online, &mut session, state.step, interrupt, &mut progress)? else {
                        session.confirm(2 * state.step + 1)?;
                        dir.save_checkpoint(&mut session, state, &files, self.config.save_total_limit)?;
                        return Ok(Outcome::Interrupted(state.step));
                    };
                    Some(round)
                }
                None => None,
            };
            let round = match (&online, &sampled) {
                (Some(online), Some(sampled)) => Round::of_sampled(online, sampled),
                _ => Round::of_rows(self.course(), reference.as_ref()),
            };
            while state.step < round.steps.end {
                let factor = schedule.factor(state.step);
                let mut row = self.step(&mut session, &round, &mut state, factor)?;
                let last = state.step == total_steps;
                if self.eval.is_some() && (last || state.step.is_multiple_of(self.config.eval_steps)) {
                    let accuracy = self.evaluate(&mut session)?;
                    row.push(("eval/accuracy", accuracy));
                    progress.note(&format!("step {}: {:.2} % right", state.step, 100.0 * accuracy));
                    if state.best.is_none_or(|best| accuracy > best.accuracy) {
                        let best = Best { step: state.step, accuracy };
                        session.confirm(2 * state.step + 1)?;
                        dir.save_best(&mut session, best, &files)?;
                        state.best = Some(best);
                    }
                }
                log.add(state.step, &row)?;
                let loss = row.iter().find(|(name, _)| *name == "loss").map_or(0.0, |(_, loss)| *loss);
                progress.advance(1, &format!("loss {loss:.4}"));

                let interrupted = interrupt.load(Ordering::Relaxed);
                let due = self.config.save_steps > 0 && state.step.is_multiple_of(self.config.save_steps);
                if (due && state.step < total_steps) || interrupted {
                    session.confirm(2 * state.step + 1)?;
                    dir.save_checkpoint(&mut session, state, &files, self.config.save_total_limit)?;
                }
                if interrupted {
                    return Ok(Outcome::Interrupted(state.step));
                }
            }
        }
        session.confirm(2 * state.step + 1)?;
        dir.save_checkpoint(&mut session, state, &files, self.config.save_total_limit)?;
        Ok(Outcome::Finished(dir.save_final(&mut session, &files)?))
    }

    /// How whoever loads adapters finds their base: the model as it was named, wherever they are loaded from.
    fn base_name(&self) -> Result<String> {
        let name = self.config.model.as_deref().unwrap_or_default();
        let dir = Path::new(name);
        Ok(if dir.is_dir() { std::path::absolute(dir)?.display().to_string() } else { name.to_owned() })
    }

    /// What makes the rounds of an online run; the reference stays in memory.
    fn online_rounds(&self, dir: &RunDir, session: &mut Session) -> Result<Option<Online<'_>>> {
        if self.problems.is_none() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::open(&self.reference.dir)?;
        let base = self.shared_base(session);
        let source = Source {
            config: &self.reference.config,
            checkpoint: Some(&checkpoint),
            adapter: self.adapters.reference(),
            base: base.as_ref(),
        };
        self.online(&self.device, source, dir.path())
    }

    /// The share of the evaluation's problems that the policy solves greedily.
    fn evaluate(&self, session: &mut Session) -> Result<f64> {
        let (Some(asked), Some(generator)) = (&self.eval, &mut session.generator) else { return Ok(0.0) };
        let writer = (&session.policy.network, generator, &self.tokenizer);
        let settings = SamplingSettings::greedy(self.config.max_new_tokens);
        let grading = (self.config.task(), Grading::default());
        let predictions = evaluate(writer, asked, grading, &settings, &[self.config.seed], || true, |_| ())?;
        Ok(EvalSummary::of(&predictions.unwrap_or_default(), asked).accuracy)
    }

    /// The reference's log-probs, where the method needs them; its model is gone when this returns.
    fn reference_logps(
        &self,
        dir: &RunDir,
        progress: impl Fn(&'static str, usize, usize) -> Progress,
    ) -> Result<Option<ReferenceLogps>> {
        if !self.objective.uses_reference() {
            return Ok(None);
        }
        let mut progress = progress("reference", self.examples.len(), 0);
        let store = ReferenceStore { run: dir.path(), data: &self.data.path, examples: &self.examples };
        if let Some(kept) = store.of_run(|line| progress.note(line))? {
            return Ok(Some(kept));
        }
        let checkpoint = Checkpoint::open(&self.reference.dir)?;
        if checkpoint.bytes() > 1 << 30 {
            let size = format_bytes(checkpoint.bytes());
            progress.note(&format!("reference log-probs: reading {size} of weights, to tell whether they are known"));
        }
        let settings = (self.config.dtype, self.config.tokens_per_micro_batch);
        let source = Source {
            config: &self.reference.config,
            checkpoint: Some(&checkpoint),
            adapter: self.adapters.reference(),
            base: None,
        };
        let origin = Origin::new((source, &checkpoint), &self.examples, &self.device, settings);
        if let Some(kept) = store.find(&origin, |line| progress.note(line))? {
            return Ok(Some(kept));
        }
        let mut scorer = self.scorer(&self.device, source)?;
        let logps = ReferenceLogps::compute(&mut scorer, &self.examples, |count| progress.advance(count, ""))?;
        store.keep(&logps, &origin, |line| progress.note(line))?;
        Ok(Some(logps))
    }

    /// The networks as the run begins, or as its newest checkpoint has them.
    fn session(&self, dir: &RunDir) -> Result<(Session, State)> {
        let (checkpoint, passed_over) = dir.newest_checkpoint()?;
        for reason in passed_over {
            eprintln!("a checkpoint is passed over: {reason}");
        }
        let kept = checkpoint.as_ref().map(|checkpoint| self.adapters.kept_in(checkpoint)).transpose()?;
        let adapters = kept.as_ref().unwrap_or(&self.adapters);
        // A base is never saved: it is the model's own.
        let weights = |part: &str, model: &Model, has_adapters: bool| match &checkpoint {
            Some(checkpoint) if !has_adapters => Checkpoint::open(&checkpoint.join(part)),
            _ => Checkpoint::open(&model.dir),
        };
        let policy = weights("policy", &self.model, adapters.policy().is_some())?;
        let has_own_weights = self.objective.uses_value() && adapters.value().is_none();
        let value = if has_own_weights { Some(weights("value", &self.value, false)?) } else { None };
        let sources = Sources {
            policy: Source {
                config: &self.model.config,
                checkpoint: Some(&policy),
                adapter: adapters.policy(),
                base: None,
            },
            value: Source {
                config: &self.value.config,
                checkpoint: value.as_ref(),
                adapter: adapters.value(),
                base: None,
            },
        };
        let capacity = self.capacity();
        let room = self.eval_room();
        let mut session = Session::new(&self.device, sources, &*self.objective, &self.config, capacity, room)?;
        let state = match &checkpoint {
            Some(checkpoint) => load_state(&mut session, checkpoint)?,
            None => State::default(),
        };
        Ok((session, state))
    }

    /// One optimizer step; its metrics.
    fn step(&self, session: &mut Session, round: &Round, state: &mut State, factor: f64) -> Result<MetricsRow> {
        let start = Instant::now();
        let done = state.step - round.steps.start;
        let micro_batches = round.course.step(done);
        let sequences = || micro_batches.iter().flat_map(|micro_batch| &micro_batch.sequences);
        let count = sequences().count();
        let totals = StepTotals {
            rows: count / self.objective.trains_on().sequences_per_row(),
            sequences: count,
            tokens: sequences().map(|sequence| sequence.example.completion_ids.len()).sum(),
            mismatched_log_ratio: mismatched_log_ratio(session, &round.course, round.reference, done)?,
        };
        if !totals.mismatched_log_ratio.is_finite() {
            return Err(self.not_finite("the loss", (state.step + 1, round), &micro_batches, &[]));
        }
        session.clear_gradients();
        let mut first_sequence = 0;
        for micro_batch in &micro_batches {
            self.accumulate(session, micro_batch, round, (first_sequence, totals))?;
            first_sequence += micro_batch.sequences.len();
        }
        let (gradient_norm, value_gradient_norm) = session.gradient_norms()?;
        let step = state.step + 1;
        session.confirm(2 * step)?;
        let statistics = session.statistics.read(totals.sequences * self.objective.statistics())?;
        let entropies = session.entropies.read(totals.sequences)?;

        let metrics = self.objective.metrics(&statistics, totals);
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        let norms = [gradient_norm, value_gradient_norm.unwrap_or(0.0)];
        if !metrics.iter().all(|(_, value)| value.is_finite()) || !finite(&entropies) {
            return Err(self.not_finite("the loss", (step, round), &micro_batches, &statistics));
        }
        if !finite(&norms) {
            return Err(self.not_finite("the gradient", (step, round), &micro_batches, &statistics));
        }
        let learning_rate = self.config.learning_rate * factor;
        let value_learning_rate = self.config.value_learning_rate() * factor;
        session.update(
            step,
            (learning_rate, gradient_norm),
            value_gradient_norm.map(|norm| (value_learning_rate, norm)),
        );

        let tokens: usize = sequences().map(|sequence| sequence.example.len()).sum();
        state.step = step;
        state.num_tokens += tokens as u64;
        let seconds = start.elapsed().as_secs_f64();
        let (epochs_before, steps_per_epoch) = round.epochs;
        let mut row = vec![("epoch", epochs_before + (done + 1) as f64 / steps_per_epoch)];
        row.extend(metrics);
        row.extend(round.sampled.iter().flat_map(|sampled| sampled.metrics.iter().copied()));
        row.push(("entropy", entropies.iter().sum::<f64>() / totals.tokens as f64));
        row.push(("grad_norm", gradient_norm));
        row.extend(value_gradient_norm.map(|norm| ("value_grad_norm", norm)));
        row.push(("learning_rate", learning_rate));
        row.extend(value_gradient_norm.map(|_| ("value_learning_rate", value_learning_rate)));
        row.push(("num_tokens", state.num_tokens as f64));
        row.push(("tokens_per_second", tokens as f64 / seconds));
        row.push(("seconds", seconds));
        row.push(("peak_memory_bytes", session.device.peak_bytes() as f64));
        Ok(row)
    }

    /// Adds one micro-batch's part to the gradients: forward, the method, backward.
    fn accumulate(
        &self,
        session: &mut Session,
        micro_batch: &MicroBatch,
        round: &Round,
        (first_sequence, totals): (usize, StepTotals),
    ) -> Result<()> {
        let Session { device, policy, value, scratch, batch, rollout, dlogp, statistics, entropies, .. } = session;
        batch.load(&micro_batch.sequences)?;
        let known = match round.sampled {
            Some(sampled) => sampled.rollout(micro_batch),
            None => self.rollout(micro_batch, round.reference),
        };
        rollout.write(0, known.into_iter())?;

        policy.network.forward(batch, &mut policy.activations, scratch);
        if let Some(value) = value {
            value.network.forward(batch, &mut value.activations, scratch);
        }
        self.objective.gradients(Seam {
            device,
            batch,
            rollout,
            logp: &policy.activations.head.logp,
            value: value.as_mut().map(|value| ValueSeam {
                value: &value.activations.value,
                bootstrap: &value.activations.bootstrap,
                dvalue: &mut value.dvalue,
            }),
            dlogp,
            statistics,
            first_sequence,
            totals,
        });
        device.run(SequenceSum {
            starts: &batch.response_starts,
            x: &policy.activations.head.entropy,
            sums: entropies,
            sequences: batch.sequences as u32,
            first_sequence: first_sequence as u32,
        });
        policy.network.backward(batch, &mut policy.activations, scratch, dlogp);
        if let Some(value) = value {
            value.network.backward(batch, &mut value.activations, scratch, &value.dvalue);
        }
        Ok(())
    }

    /// What is known of each action beforehand, as [`Seam::rollout`] holds it.
    fn rollout(&self, micro_batch: &MicroBatch, reference: Option<&ReferenceLogps>) -> Vec<f64> {
        let mut rows = Vec::new();
        for (&number, sequence) in micro_batch.examples.iter().zip(&micro_batch.sequences) {
            let example = sequence.example;
            let last = example.completion_ids.len() - 1;
            let of_reference = reference.map(|reference| reference.of(number));
            for t in 0..=last {
                let logp_ref = of_reference.map_or(0.0, |logps| logps[t]);
                let logp_mu = example.behavior_logps.as_ref().map_or(logp_ref, |logps| logps[t]);
                let step_reward = example.step_rewards.get(t).copied().unwrap_or(0.0);
                let outcome = if t == last { example.reward.unwrap_or(0.0) } else { 0.0 };
                let reward = outcome + self.config.process_scale * step_reward;
                let goes_on = f64::from(u8::from(t == last && sequence.bootstrapped));
                rows.extend([logp_ref, logp_mu, reward, goes_on]);
            }
        }
        rows
    }

    /// The error of a step in which `what` is not finite: the rows whose statistics show it, else all rows in it.
    fn not_finite(
        &self,
        what: &str,
        (step, round): (usize, &Round),
        micro_batches: &[MicroBatch],
        statistics: &[f64],
    ) -> anyhow::Error {
        let sequences = || micro_batches.iter().flat_map(|micro_batch| &micro_batch.sequences);
        let statistics = statistics.chunks(self.objective.statistics());
        let shown = sequences().zip(statistics).filter(|(_, row)| !row.iter().all(|value| value.is_finite()));
        let mut lines: Vec<_> = shown.map(|(sequence, _)| sequence.example.line).collect();
        if lines.is_empty() {
            lines = sequences().map(|sequence| sequence.example.line).collect();
        }
        lines.sort_unstable();
        lines.dedup(); // a pair's two are of one line
        let plural = if lines.len() == 1 { "line" } else { "lines" };
        let lines: Vec<_> = lines.iter().map(usize::to_string).collect();
        anyhow::anyhow!(
            "step {step}: {what} is not finite, with the rows on {plural} {} of {} in it; the weights are as they were \
             before the step, and the last checkpoint is kept. Try a smaller --learning-rate",
            lines.join(", "),
            round.sampled.map_or(&self.data.path, |sampled| &sampled.path).display()
        )
    }
}

/// See [`StepTotals::mismatched_log_ratio`]: forward passes alone, over what the reference scored before.
fn mismatched_log_ratio(
    session: &mut Session,
    course: &Course,
    reference: Option<&ReferenceLogps>,
    done: usize,
) -> Result<f64> {
    let (pairs, micro_batches) = course.mismatched(done);
    let Some(reference) = reference.filter(|_| !pairs.is_empty()) else { return Ok(0.0) };
    let Session { policy, scratch, batch, .. } = session;
    let mut log_ratios = HashMap::new();
    for micro_batch in &micro_batches {
        batch.load(&micro_batch.sequences)?;
        policy.network.forward(batch, &mut policy.activations, scratch);
        let mut logps = policy.activations.head.logp.read(batch.positions)?.into_iter();
        for &number in &micro_batch.examples {
            // The reference first: zip takes of its first side once more than of its second.
            let of_both = reference.of(number).iter().zip(logps.by_ref());
            let log_ratio: f64 = of_both.map(|(logp_ref, logp)| logp - logp_ref).sum();
            log_ratios.insert(number, log_ratio);
        }
    }
    Ok(pairs.iter().map(|number| log_ratios[number]).sum::<f64>() / pairs.len() as f64)
}
