//! What trains: the networks and their optimizer, step by step, and what is written of them.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use safetensors::Dtype;

use super::config::TrainConfig;
use super::course::{MicroBatch, StepProbes};
use super::inputs::Inputs;
use super::log::MetricsRow;
use super::models::{Model, Models, base_name};
use super::optimizer::Update;
use super::rows::{Round, Rows};
use super::run_dir::{Best, ModelFiles, RunDir, State, load_state, saved_bytes};
use super::schedule::Schedule;
use super::session::{EvalRoom, GradientNorms, Session, Sources, StepResults};
use super::shared_sum::{SharedSum, Traffic, Turn};
use super::watch::Watch;
use crate::data::{DropoutDraw, Tokenizer};
use crate::device::Device;
use crate::format::format_bytes;
use crate::gguf::ValueFormat;
use crate::grade::Grading;
use crate::kernels::SequenceSum;
use crate::model::{Checkpoint, NotFinite, WeightType};
use crate::objective::{Objective, StepTotals};
use crate::progress::{Progress, say, titled};
use crate::ranks::Ranks;
use crate::sample::{AskedProblems, EvalSummary, Evaluation, SamplingSettings};

/// A run in training.
pub struct Trainer {
    pub(super) config: TrainConfig,
    pub(super) objective: Box<dyn Objective>,
    pub(super) session: Session,
    pub(super) models: Models,
    pub(super) tokenizer: Tokenizer,
    /// What evaluations ask.
    eval: Option<AskedProblems>,
    /// The run's directory, which is the first rank's.
    pub(super) dir: Option<RunDir>,
    pub(super) ranks: Ranks,
    /// Where there are several ranks.
    sum: Option<SharedSum>,
    /// Whether ranks compute with other rounding than the first one.
    are_mixed: bool,
    schedule: Schedule,
    state: State,
    /// How whole networks are stored as results.
    result_dtype: Dtype,
}

/// What of a run is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// Everything to go on from.
    Checkpoint,
    /// The networks, as the best ones so far.
    Best,
    /// The networks, as the run's result.
    Final,
}

impl Trainer {
    /// The networks as the run begins, or as the newest checkpoint in `dir` has them.
    ///
    /// # Errors
    /// Where a file is missing or wrong, or the device is too small.
    pub(super) fn new(inputs: Inputs, rows: &dyn Rows, device: &Device, dir: Option<RunDir>) -> Result<Self> {
        let (room, eval_room) = (inputs.train_room(rows, inputs.ranks.count()), inputs.generation(rows));
        let Inputs { config, objective, models, tokenizer, eval, ranks } = inputs;
        let checkpoint = dir.as_ref().map(RunDir::newest_checkpoint).transpose()?.flatten();
        let kept = checkpoint.as_ref().map(|checkpoint| models.adapters.kept_in(checkpoint)).transpose()?;
        let adapters = kept.as_ref().unwrap_or(&models.adapters);
        // A base is never saved: it is the model's own.
        let weights = |part: &str, model: &Model, has_adapters: bool| match &checkpoint {
            Some(checkpoint) if !has_adapters => Checkpoint::open(&checkpoint.join(part)),
            _ => model.weights(),
        };
        let policy = weights("policy", &models.policy, adapters.policy().is_some())?;
        let has_own_weights = objective.value_network().is_some() && adapters.value().is_none();
        let value = if has_own_weights { Some(weights("value", &models.value, false)?) } else { None };
        let sources = Sources {
            policy: models.policy.source(Some(&policy), adapters.policy(), None),
            value: models.value.source(value.as_ref(), adapters.value(), None),
        };
        let eval_room = eval_room.map(|sizes| EvalRoom { sizes, stop_ids: tokenizer.stop_ids() });
        let mut session = Session::new(device, sources, &*objective, &config, room, eval_room)?;
        let state = checkpoint.as_ref().map(|checkpoint| load_state(&mut session, checkpoint)).transpose()?;
        let state: Option<State> = ranks.of_first(|| Ok(state))?;
        if state.is_some() {
            session.copy_first(&ranks, true)?;
        }
        let are_mixed = look_at_devices(&ranks, device)?;
        let sum = ranks.are_several().then(|| SharedSum::new(device, &ranks, session.gradient_elements()));
        let schedule = config.optimizer.schedule(rows.total_steps());
        let result_dtype = result_dtype(&config, &models.policy.weights()?);
        Ok(Self {
            config,
            objective,
            session,
            models,
            tokenizer,
            eval,
            dir,
            ranks,
            sum,
            are_mixed,
            schedule,
            state: state.unwrap_or_default(),
            result_dtype,
        })
    }

    /// Finished steps.
    pub fn done(&self) -> usize {
        self.state.step
    }

    /// One optimizer step; its metrics.
    ///
    /// # Errors
    /// Where the device fails, or a loss or gradient is not finite: the weights are as they were before the step then.
    pub(super) fn step(&mut self, round: &Round) -> Result<MetricsRow> {
        let start = Instant::now();
        let done = self.done() - round.steps.start;
        self.probe(round, done)?;
        let micro_batches = round.course.step(done);
        let totals = self.totals(&micro_batches);
        self.gradients(&micro_batches, round, totals)?;
        let results = self.session.results(totals.sequences)?;
        let StepResults { statistics, entropies, norms } = self.of_all(results, &micro_batches)?;
        let metrics = self.objective.metrics(&statistics, totals);
        let loss_is_finite = metrics.iter().map(|(_, value)| value).chain(&entropies).all(|value| value.is_finite());
        if !loss_is_finite {
            return Err(self.not_finite("the loss", round, &micro_batches, &statistics));
        }
        if !norms.policy.is_finite() || !norms.value.unwrap_or(0.0).is_finite() {
            return Err(self.not_finite("the gradient", round, &micro_batches, &statistics));
        }
        let mut row = vec![("epoch", round.epochs_before + (done + 1) as f64 / round.steps_per_epoch)];
        row.extend(metrics);
        row.extend(round.metrics.iter().copied());
        row.push(("entropy", entropies.iter().sum::<f64>() / totals.tokens as f64));
        self.update(norms, &mut row);
        if self.are_mixed {
            self.session.copy_first(&self.ranks, false)?;
        }

        let sequences = micro_batches.iter().flat_map(|micro_batch| &micro_batch.sequences);
        let tokens: usize = sequences.map(|sequence| sequence.example.len()).sum();
        self.state.num_tokens += tokens as u64;
        let seconds = start.elapsed().as_secs_f64();
        row.push(("num_tokens", self.state.num_tokens as f64));
        row.push(("tokens_per_second", tokens as f64 / seconds));
        row.push(("seconds", seconds));
        row.push(("peak_memory_bytes", self.session.device.peak_bytes() as f64));
        if let Some(sum) = &mut self.sum {
            let Traffic { bytes, seconds } = sum.take_traffic();
            row.extend([("comm/bytes", bytes as f64), ("comm/seconds", seconds)]);
        }
        Ok(row)
    }

    /// The gradients of a step: each micro-batch's by itself, added up in their order.
    fn gradients(&mut self, micro_batches: &[MicroBatch], round: &Round, totals: StepTotals) -> Result<()> {
        let count = self.ranks.count();
        let mut first_sequence = 0;
        for (turn, side_by_side) in micro_batches.chunks(count).enumerate() {
            let is_last = (turn + 1) * count >= micro_batches.len();
            if let Some(sum) = &mut self.sum {
                sum.begin(Turn { micro_batches: side_by_side.len(), is_first: turn == 0, is_last });
            }
            for (rank, micro_batch) in side_by_side.iter().enumerate() {
                if rank == self.ranks.number() {
                    self.accumulate(micro_batch, round, first_sequence, totals)?;
                }
                first_sequence += micro_batch.sequences.len();
            }
            if let Some(sum) = &mut self.sum {
                sum.end(self.session.gradients_mut())?;
            } else if micro_batches.len() > 1 {
                self.session.add_up();
                if is_last {
                    self.session.take_totals();
                }
            }
        }
        Ok(())
    }

    /// What the ranks' own passes have left, put together.
    fn of_all(&self, own: StepResults, micro_batches: &[MicroBatch]) -> Result<StepResults> {
        let width = self.objective.statistics();
        let mut ends = Vec::with_capacity(micro_batches.len());
        for micro_batch in micro_batches {
            ends.push(ends.last().unwrap_or(&0) + micro_batch.sequences.len());
        }
        let rows = |number: usize| ends[number] - micro_batches[number].sequences.len()..ends[number];
        let of_micro_batch = |number: usize| {
            let Range { start, end } = rows(number);
            Ok((own.statistics[start * width..end * width].to_vec(), own.entropies[start..end].to_vec()))
        };
        let (statistics, entropies): (Vec<_>, Vec<_>) =
            self.ranks.deal(micro_batches.len(), of_micro_batch)?.into_iter().unzip();
        Ok(StepResults { statistics: statistics.concat(), entropies: entropies.concat(), norms: own.norms })
    }

    fn totals(&self, micro_batches: &[MicroBatch]) -> StepTotals {
        let sequences = || micro_batches.iter().flat_map(|micro_batch| &micro_batch.sequences);
        let count = sequences().count();
        StepTotals {
            rows: count / self.objective.trains_on().sequences_per_row(),
            sequences: count,
            tokens: sequences().map(|sequence| sequence.example.completion_ids.len()).sum(),
        }
    }

    /// Scores the step's probes and shows them to the method: forward passes alone, over what the reference scored before.
    fn probe(&mut self, round: &Round, done: usize) -> Result<()> {
        let Some(reference) = round.reference else { return Ok(()) };
        let StepProbes { wanted, micro_batches } = round.course.probes(done);
        let Session { policy, scratch, batch, .. } = &mut self.session;
        let log_ratios = self.ranks.deal(micro_batches.len(), |number| {
            let micro_batch = &micro_batches[number];
            batch.load(&micro_batch.sequences)?;
            policy.network.forward(batch, &mut policy.activations, scratch);
            let mut logps = policy.activations.head.logp.read(batch.positions)?.into_iter();
            let log_ratio = |&number: &usize| {
                // The reference first: zip takes of its first side once more than of its second.
                let of_both = reference.of(number).iter().zip(logps.by_ref());
                (number, of_both.map(|(logp_ref, logp)| logp - logp_ref).sum())
            };
            Ok(micro_batch.examples.iter().map(log_ratio).collect::<Vec<(usize, f64)>>())
        })?;
        let log_ratios: HashMap<usize, f64> = log_ratios.into_iter().flatten().collect();
        let log_ratios: Vec<f64> = wanted.iter().map(|number| log_ratios[number]).collect();
        if !log_ratios.iter().all(|log_ratio| log_ratio.is_finite()) {
            return Err(self.not_finite("the loss", round, &round.course.step(done), &[]));
        }
        self.objective.begin_step(&log_ratios);
        Ok(())
    }

    /// Adds one micro-batch's part to the gradients: forward, the method, backward.
    fn accumulate(
        &mut self,
        micro_batch: &MicroBatch,
        round: &Round,
        first_sequence: usize,
        totals: StepTotals,
    ) -> Result<()> {
        if self.models.adapters.have_dropout() {
            let draw = DropoutDraw { seed: self.config.seed, step: self.state.step };
            self.session.batch.load_dropping(&micro_batch.sequences, draw)?;
        } else {
            self.session.batch.load(&micro_batch.sequences)?;
        }
        self.session.rollout.write(0, round.known.rollout(micro_batch).into_iter())?;
        self.session.forward();
        self.objective.gradients(self.session.seam(first_sequence, totals))?;
        let Session { device, policy, batch, entropies, .. } = &mut self.session;
        device.run(SequenceSum {
            starts: &batch.response_starts,
            x: &policy.activations.head.entropy,
            sums: entropies,
            sequences: batch.sequences as u32,
            first_sequence: first_sequence as u32,
        });
        let mut heard = Ok(());
        self.session.backward(&mut |finished| {
            if let (Some(sum), Ok(())) = (&mut self.sum, &heard) {
                heard = sum.hear(finished);
            }
        });
        heard
    }

    /// Steps the weights, each group at its learning rate; what that was goes into the step's row.
    fn update(&mut self, norms: GradientNorms, row: &mut MetricsRow) {
        let factor = self.schedule.factor(self.state.step);
        let step = self.state.step + 1;
        let learning_rate = self.config.optimizer.learning_rate;
        let value_rate = self.objective.value_network().and_then(|options| options.value_learning_rate);
        let update = |rate: f64, gradient_norm| Update { step, learning_rate: rate * factor, gradient_norm };
        let policy = update(learning_rate, norms.policy);
        let value = norms.value.map(|norm| update(value_rate.unwrap_or(learning_rate), norm));
        self.session.update(policy, value);
        self.state.step = step;
        row.push(("grad_norm", policy.gradient_norm));
        row.extend(value.map(|value| ("value_grad_norm", value.gradient_norm)));
        row.push(("learning_rate", policy.learning_rate));
        row.extend(value.map(|value| ("value_learning_rate", value.learning_rate)));
    }

    /// Whether the policy is asked problems after this step; it is after the last one.
    pub(super) fn is_evaluated(&self, is_last: bool) -> bool {
        self.eval.is_some() && (is_last || self.done().is_multiple_of(self.config.evaluation.eval_steps))
    }

    /// Whether an evaluation comes before the next step: that after the last one, which was interrupted, or that before the first.
    pub(super) fn owes_evaluation(&self) -> bool {
        self.state.owes_evaluation || self.done() == 0 && self.config.evaluation.eval_on_start
    }

    /// How many of the evaluation's problems the policy solves greedily; the best policy so far is saved. `None` where
    /// it was interrupted: it is owed then.
    ///
    /// # Errors
    /// Where the device fails or a file cannot be written.
    pub(super) fn evaluate(&mut self, watch: Watch) -> Result<Option<EvalSummary>> {
        let (Some(asked), Some(generator)) = (&self.eval, &mut self.session.generator) else { return Ok(None) };
        let settings = SamplingSettings::greedy(self.config.evaluation.max_new_tokens);
        let (task, grading, seeds) = (self.config.task(), Grading::default(), &[self.config.seed]);
        let evaluation = Evaluation { asked, task, grading, settings: &settings, seeds, ranks: &self.ranks };
        let policy = &self.session.policy.network;
        let mut progress = watch.progress(titled("eval", &asked.file.path), evaluation.responses(), 0);
        let go_on = || !watch.has_interrupted();
        let predictions = evaluation.run(policy, generator, &self.tokenizer, go_on, &mut progress)?;
        self.state.owes_evaluation = predictions.is_none();
        let Some(predictions) = predictions else { return Ok(None) };
        let summary = EvalSummary::of(&predictions, asked);
        let accuracy = summary.accuracy;
        if self.state.best.is_none_or(|best| accuracy > best.accuracy) {
            self.state.best = Some(Best { step: self.done(), accuracy });
            self.save(Saved::Best, &progress)?;
        }
        progress.clear();
        Ok(Some(summary))
    }

    /// Whether a checkpoint is due after this step.
    pub(super) fn is_saved(&self) -> bool {
        let every = self.config.saving.save_steps;
        every > 0 && self.done().is_multiple_of(every)
    }

    /// Confirms that all work was done, then saves, and says so; returns where. The first rank does.
    ///
    /// # Errors
    /// Where the device fails or a file cannot be written; what was saved before is kept then.
    pub(super) fn save(&mut self, what: Saved, progress: &Progress) -> Result<PathBuf> {
        self.session.confirm()?;
        let Self { config, session, models, dir: Some(dir), state, result_dtype, .. } = self else {
            return Ok(self.config.output_dir.clone().unwrap_or_default());
        };
        let is_result = what != Saved::Checkpoint;
        let adapters_dtype = config.saving.save_dtype.map(WeightType::in_files);
        let files = ModelFiles {
            policy_config: &models.policy.config,
            value_config: &models.value.config,
            tokenizer: &models.policy.dir,
            policy_adapter: models.adapters.policy().map(|adapter| &adapter.config),
            value_adapter: models.adapters.value().map(|adapter| &adapter.config),
            weights_dtype: is_result.then_some(*result_dtype),
            adapters_dtype: adapters_dtype.filter(|_| is_result),
            base: base_name(config.model.model.as_deref().unwrap_or_default())?,
        };
        let bytes = saved_bytes(session, &files, what == Saved::Checkpoint);
        progress.busy(&format!("saving {}", format_bytes(bytes)));
        let step = state.step;
        let saved = match (what, state.best) {
            (Saved::Checkpoint, _) => dir.save_checkpoint(session, *state, &files, config.saving.save_total_limit),
            (Saved::Best, Some(best)) => dir.save_best(session, best, &files),
            (Saved::Best | Saved::Final, _) => dir.save_final(session, &files),
        };
        saved.map_err(|error| match error.is::<NotFinite>() {
            true => error.context(format!(
                "step {step} left weights that are not finite; what was saved before is kept. Try a smaller --learning-rate"
            )),
            false => error,
        })
    }

    /// The error of a step in which `what` is not finite: the rows whose statistics show it, else all rows in it.
    fn not_finite(&self, what: &str, round: &Round, micro_batches: &[MicroBatch], statistics: &[f64]) -> anyhow::Error {
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
            "step {}: {what} is not finite, with the rows on {plural} {} of {} in it; the weights are as they were before the \
             step, and the last checkpoint is kept. Try a smaller --learning-rate",
            self.done() + 1,
            lines.join(", "),
            round.path.display()
        )
    }
}

/// Whether ranks compute with other rounding than the first one. Says so, and where two share an adapter.
fn look_at_devices(ranks: &Ranks, device: &Device) -> Result<bool> {
    let kinds = ranks.gather([device.kind(), device.description()])?;
    let other = kinds.iter().find(|[kind, _]| *kind != kinds[0][0]);
    if let Some([_, description]) = other {
        say(format_args!(
            "warning: the ranks' devices differ ({} and {description}): the result is not to the bit what one of them would come to",
            kinds[0][1]
        ));
    }
    let place = device.as_gpu().filter(|_| device.is_real_gpu()).map(|gpu| (ranks.machine(), gpu.place()));
    let places = ranks.gather(place)?;
    let shared = (0..places.len()).find(|&rank| places[rank].is_some() && places[..rank].contains(&places[rank]));
    if let Some((rank, (_, adapter))) = shared.and_then(|rank| Some((rank, places[rank].as_ref()?))) {
        say(format_args!(
            "warning: rank {rank} shares its adapter with another one: {adapter}; start fewer, or give each its --device"
        ));
    }
    Ok(other.is_some())
}

/// The type of the model's own files, where that is not wider than what is trained.
fn result_dtype(config: &TrainConfig, model: &Checkpoint) -> Dtype {
    let held = config.model.weights.dtype.in_files();
    let of_files = model.matrix_format().map(ValueFormat::plain).filter(|dtype| dtype.bitsize() < held.bitsize());
    config.saving.save_dtype.map(WeightType::in_files).or(of_files).unwrap_or(held)
}
