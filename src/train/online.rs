//! Rows that the policy itself writes: sampled round by round, graded, and scored before it moves on.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::config::TrainConfig;
use super::course::{Course, CourseSettings, Length, MicroBatch, StepRoom};
use super::logps::{Scorer, Scoring, WINDOW};
use super::models::Models;
use super::reference::starts;
use super::rounds::Rounds;
use super::rows::{Known, Maker, Outlook, Place, Round, Rows};
use super::scores::Scores;
use super::session::Session;
use super::source::Source;
use super::watch::Watch;
use crate::data::{Capacity, Example, Examples, ProblemFile, RowFile, Tokenizer};
use crate::device::Device;
use crate::files;
use crate::grade::Task;
use crate::objective::{Estimates, Metrics, Objective, Online as Method, RoundSizes, Scored};
use crate::ranks::Ranks;
use crate::sample::{AskedProblems, Generated, Request, Rollout, SamplingSettings, Sizes};

/// The rounds of an online run.
pub struct Online {
    asked: AskedProblems,
    rounds: Rounds,
    sizes: RoundSizes,
    config: TrainConfig,
    /// Tokens that every one of the models computes.
    context: usize,
    /// Where a rank that is not the first has the rounds' rows; the run's directory is the first one's.
    elsewhere: Option<TempDir>,
    /// The round that is trained on.
    sampled: Option<SampledRound>,
}

/// A round that is ready to be trained on.
struct SampledRound {
    /// Its number, from 0.
    number: usize,
    /// Where its rows are.
    path: PathBuf,
    examples: Vec<Example>,
    /// Of every response token, example after example: see [`Estimates`].
    actions: Vec<[f64; 4]>,
    /// Where each example's tokens start in `actions`, and where the last one's end.
    starts: Vec<usize>,
    /// What a batch is made of: the examples, each by itself.
    rows: Vec<Vec<usize>>,
    /// What is known of the round as a whole.
    metrics: Metrics,
}

impl Online {
    /// Reads and checks the problems, or assumes prompts that fill `--max-length` with their responses where a plan names no
    /// data.
    ///
    /// # Errors
    /// Names the option, or the file, line and field, that is wrong.
    pub fn open(
        config: &TrainConfig,
        objective: &dyn Objective,
        method: &dyn Method,
        models: &Models,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        ensure!(
            config.data.is_none() || config.evaluation.task.is_some_and(|task| task != Task::None),
            "{} without a task: it grades what it samples; give --task gsm8k or math",
            objective.name()
        );
        let context = models.context_of_all();
        let asked = match &config.data {
            Some(path) => problems(path, config, models, tokenizer)?,
            None => {
                let most = config.steps.max_length.min(context);
                AskedProblems::assumed(most.saturating_sub(config.evaluation.max_new_tokens).max(1))
            }
        };
        let steps = &config.steps;
        let sizes = method.rounds();
        let rounds = Rounds::new(asked.len(), sizes, steps.batch_size, steps.length(), config.seed);
        let online = Self { asked, rounds, sizes, config: config.clone(), context, elsewhere: None, sampled: None };
        online.check_length()?;
        Ok(online)
    }

    fn check_length(&self) -> Result<()> {
        let (longest, max_length) = (self.longest(), self.config.steps.max_length);
        ensure!(
            self.config.data.is_none() || longest <= max_length,
            "--max-length is {max_length}, and the longest prompt ({} tokens) with a response of up to {} (--max-new-tokens) \
             has {longest}; set --max-length {longest}",
            self.asked.longest(),
            self.config.evaluation.max_new_tokens
        );
        Ok(())
    }

    /// Tokens of a prompt and its response at most.
    fn longest(&self) -> usize {
        self.asked.longest().saturating_add(self.config.evaluation.max_new_tokens).min(self.context)
    }

    /// The room that every micro-batch of up to `count` responses fits, whatever their lengths are.
    fn capacity_of(&self, count: usize) -> Capacity {
        let shortest_prompt = self.asked.prompts.iter().map(Vec::len).min().unwrap_or(1);
        let (responses, longest) = (self.config.evaluation.max_new_tokens, self.longest() - 1);
        let budget = self.config.steps.tokens_per_micro_batch;
        let tokens = budget.max(longest).min(count.saturating_mul(longest));
        Capacity {
            tokens,
            // The longest response to the shortest prompt has the largest share of response tokens.
            positions: (tokens.saturating_mul(responses) / (shortest_prompt - 1 + responses)).min(count * responses),
            sequences: count.min(tokens / shortest_prompt),
            longest,
        }
    }

    /// A round's steps.
    fn course<'a>(&self, number: usize, examples: &'a [Example], rows: &'a [Vec<usize>]) -> Course<'a> {
        let steps = &self.config.steps;
        let settings = CourseSettings {
            batch_size: steps.batch_size,
            tokens_per_micro_batch: steps.tokens_per_micro_batch,
            length: Length::Epochs(self.sizes.epochs),
            seed: self.rounds.seed(number),
            bootstrap: false,
        };
        Course::new(examples, rows, None, settings)
    }

    /// The round of the step after `done` finished ones: a new one is sampled, graded, scored and kept; one that is in the
    /// middle is what was kept of it.
    fn make(&self, maker: Maker, done: usize) -> Result<Option<SampledRound>> {
        let number = self.rounds.round_of(done);
        let is_new = self.rounds.steps(number).start == done;
        let Maker { ranks, session, reference, objective, models, tokenizer, output_dir, watch, progress } = maker;
        let dir = self.elsewhere.as_ref().map_or(output_dir, TempDir::path).join("rollouts");
        let path = dir.join(format!("round-{:06}.jsonl", number + 1));
        let rows = if is_new {
            let title = format!("round {}", number + 1);
            let tick = |count, total| progress.advance(0, &format!("{title}: {count} of {total} responses"));
            let Some(rows) = self.sample(session, ranks, tokenizer, number, watch, tick)? else { return Ok(None) };
            rows
        } else {
            ranks
                .of_first(|| fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display())))?
        };
        if is_new || !ranks.is_first() {
            fs::create_dir_all(&dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
            files::write_file(&path, rows.as_bytes())?;
        }
        let limits = models.policy.config.limits();
        let examples =
            Examples::build(&RowFile::read(&path)?, tokenizer, limits, self.config.steps.max_length)?.examples;
        let expected = self.rounds.rollouts_of(number);
        ensure!(
            examples.len() == expected,
            "{}: has {} rows, and the round {expected}; a run goes on as it began",
            path.display(),
            examples.len()
        );
        let starts = starts(&examples);
        let scores_path = path.with_extension("safetensors");
        let scores = if is_new {
            let reference = reference.context("an online run has a reference")?;
            let scores = self.score(session, reference, number, &examples, &starts, &path)?;
            if ranks.is_first() {
                scores.write(&scores_path, &path)?;
            }
            scores
        } else {
            ranks.of_first(|| Scores::read(&scores_path, &path, starts[examples.len()]))?
        };
        let method = objective.online().context("an online run has an online method")?;
        let round = SampledRound::new(number, path, examples, starts, &scores, method);
        progress.note(&format!("round {}: {:.2} % right", number + 1, 100.0 * round.accuracy()));
        Ok(Some(round))
    }

    /// A round's rows; `tick` hears of every response, with how many there are and how many are wanted.
    fn sample(
        &self,
        session: &mut Session,
        ranks: &Ranks,
        tokenizer: &Tokenizer,
        number: usize,
        watch: Watch,
        mut tick: impl FnMut(usize, usize),
    ) -> Result<Option<String>> {
        let all = self.rounds.wanted(number);
        let wanted: Vec<_> = ranks.share(all.len()).map(|index| all[index]).collect();
        let requests = wanted.iter().map(|wanted| Request {
            prompt_ids: self.asked.prompts[wanted.problem].clone(),
            seed: self.config.seed,
            stream: (self.asked.problem(wanted.problem).line as u64) << 32 | wanted.sample as u64,
        });
        let mut rows = vec![String::new(); wanted.len()];
        let mut written = 0;
        let finished = |response: Generated| {
            let (place, request) = (wanted[response.request], response.request);
            let (problem, prompt_ids) = (self.asked.problem(place.problem), &self.asked.prompts[place.problem]);
            let rollout = Rollout { problem, prompt_ids, sample: place.sample, response };
            let row = rollout.row(self.config.task(), tokenizer)?;
            rows[request] = row.to_string() + "\n";
            written += 1;
            tick(written, wanted.len());
            Ok(true)
        };
        let generator = session.generator.as_mut().context("an online run has a generator")?;
        let settings = SamplingSettings::whole_distribution(self.config.evaluation.max_new_tokens);
        let go_on = |_, _| Ok(!watch.has_interrupted());
        generator
            .run(&session.policy.network, requests, &settings, go_on, finished)
            .with_context(|| format!("round {}", number + 1))?;
        if ranks.any(written < wanted.len())? {
            return Ok(None);
        }
        Ok(Some(ranks.in_order(rows)?.concat()))
    }

    /// Scores a new round: by the training's own forward passes over the micro-batches of its first epoch, so that the first
    /// ratios are exactly 1; and by the reference.
    fn score(
        &self,
        session: &mut Session,
        reference: &mut Scorer,
        number: usize,
        examples: &[Example],
        starts: &[usize],
        path: &Path,
    ) -> Result<Scores> {
        let tokens = starts[examples.len()];
        let mut logps_ref = Vec::with_capacity(tokens);
        reference.score(examples, |_, scored| {
            logps_ref.extend(scored.into_iter().flat_map(|scored| scored.logps));
            Ok(())
        })?;

        let mut scores = Scores { logps_old: vec![0.0; tokens], logps_ref, values_old: vec![0.0; tokens] };
        let rows = each_by_itself(examples.len());
        let course = self.course(number, examples, &rows);
        let micro_batches: Vec<_> = (0..course.steps_per_epoch).flat_map(|done| course.step(done)).collect();
        let ranks = reference.ranks();
        let passes = ranks.deal(micro_batches.len(), |number| forward(session, &micro_batches[number]))?;
        for (micro_batch, passes) in micro_batches.iter().zip(passes) {
            let mut first = 0;
            for &example in &micro_batch.examples {
                let places = starts[example]..starts[example + 1];
                let read = first..first + places.len();
                first = read.end;
                let (logps, values) = (&passes.logps[read.clone()], &passes.values[read]);
                ensure!(
                    logps.iter().chain(values).all(|score| score.is_finite()),
                    "the log-probs or values of the row on line {} of {} are not finite; try a smaller --learning-rate or \
                     --value-learning-rate",
                    examples[example].line,
                    path.display()
                );
                scores.logps_old[places.clone()].copy_from_slice(logps);
                scores.values_old[places].copy_from_slice(values);
            }
        }
        Ok(scores)
    }
}

/// The problems of a file, each with room for a response in every model's context.
fn problems(path: &Path, config: &TrainConfig, models: &Models, tokenizer: &Tokenizer) -> Result<AskedProblems> {
    let file = ProblemFile::read(path, &config.columns, config.task())?;
    let asked = AskedProblems::new(file, None, tokenizer, models.policy.config.limits())?;
    asked.file.need_answers()?;
    for (problem, ids) in asked.file.problems.iter().zip(&asked.prompts) {
        for model in [&models.value, &models.reference] {
            model.config.limits().check_prompt(ids, || asked.file.place(problem))?;
        }
    }
    Ok(asked)
}

/// What the networks say of a micro-batch's actions.
#[derive(Serialize, Deserialize)]
struct Passes {
    logps: Vec<f64>,
    values: Vec<f64>,
}

fn forward(session: &mut Session, micro_batch: &MicroBatch) -> Result<Passes> {
    session.batch.load(&micro_batch.sequences)?;
    session.forward();
    let Session { policy, value, batch, .. } = session;
    let value = value.as_ref().context("an online run has a value network")?;
    Ok(Passes {
        logps: policy.activations.head.logp.read(batch.positions)?,
        values: value.activations.value.read(batch.positions)?,
    })
}

impl SampledRound {
    fn new(
        number: usize,
        path: PathBuf,
        examples: Vec<Example>,
        starts: Vec<usize>,
        scores: &Scores,
        method: &dyn Method,
    ) -> Self {
        let scored = |(example, range): (&Example, &[usize])| {
            let range = range[0]..range[1];
            Scored {
                logps_old: &scores.logps_old[range.clone()],
                logps_ref: &scores.logps_ref[range.clone()],
                values_old: &scores.values_old[range],
                reward: example.reward.unwrap_or(0.0),
            }
        };
        let responses: Vec<Scored> = examples.iter().zip(starts.windows(2)).map(scored).collect();
        let Estimates { actions, metrics: of_method } = method.estimate(&responses);
        let mut metrics = vec![("round", (number + 1) as f64)];
        metrics.extend(of_method);
        let rows = each_by_itself(examples.len());
        Self { number, path, examples, actions, starts, rows, metrics }
    }

    /// The share of its responses that are right.
    fn accuracy(&self) -> f64 {
        let right = self.examples.iter().filter(|example| example.is_right()).count();
        right as f64 / self.examples.len() as f64
    }

    fn places(&self, example: usize) -> Range<usize> {
        self.starts[example]..self.starts[example + 1]
    }
}

impl Known for SampledRound {
    fn rollout(&self, micro_batch: &MicroBatch) -> Vec<f64> {
        let of = |&example: &usize| &self.actions[self.places(example)];
        micro_batch.examples.iter().flat_map(of).flatten().copied().collect()
    }
}

fn each_by_itself(count: usize) -> Vec<Vec<usize>> {
    (0..count).map(|number| vec![number]).collect()
}

impl Rows for Online {
    fn path(&self) -> &Path {
        &self.asked.file.path
    }

    fn total_steps(&self) -> usize {
        self.rounds.total_steps()
    }

    fn room(&self) -> StepRoom {
        let steps = &self.config.steps;
        let longest = steps.batch_size.saturating_mul(self.longest());
        StepRoom {
            capacity: self.capacity_of(steps.batch_size),
            several: steps.batch_size > 1 && longest > steps.tokens_per_micro_batch,
        }
    }

    fn sampling(&self) -> Option<Sizes> {
        let batch = self.config.evaluation.eval_batch_size.min(self.rounds.most_rollouts());
        Some(Sizes { batch, prompt: self.asked.longest(), tokens: self.longest() })
    }

    fn outlook(&self) -> Outlook {
        let is_known = self.config.data.is_some();
        let assumed = || format!("no --data: prompts of up to {} tokens", self.asked.longest());
        Outlook {
            assumed: (!is_known).then(assumed),
            rows: is_known.then(|| self.rounds.total_rollouts()),
            rounds: is_known.then(|| self.rounds.count()),
            ..Outlook::default()
        }
    }

    fn warnings(&self) -> &[String] {
        &[]
    }

    /// What a response is sampled beside may change its log-probs' last bits, and with them, rarely, a token.
    fn depends_on(&self) -> &'static [&'static str] {
        &["eval_batch_size"]
    }

    fn scorer_before(&self, _: &Device, _: Source) -> Result<Option<Scorer>> {
        Ok(None)
    }

    fn scorer_beside(&self, device: &Device, reference: Source) -> Result<Option<Scorer>> {
        let capacity = self.capacity_of(self.rounds.most_rollouts().min(WINDOW));
        let scoring = Scoring {
            storage: self.config.model.weights.storage(),
            tokens_per_micro_batch: self.config.steps.tokens_per_micro_batch,
        };
        Scorer::with_capacity(device, reference, "reference", scoring, capacity).map(Some)
    }

    fn prepare(&mut self, place: Place, _: Watch) -> Result<bool> {
        if !place.ranks.is_first() {
            self.elsewhere = Some(TempDir::new().context("a directory for the rounds' rows cannot be made")?);
        }
        Ok(true)
    }

    fn round(&mut self, maker: Maker, done: usize) -> Result<Option<Round<'_>>> {
        self.sampled = self.make(maker, done)?;
        let Some(round) = &self.sampled else { return Ok(None) };
        Ok(Some(Round {
            course: self.course(round.number, &round.examples, &round.rows),
            steps: self.rounds.steps(round.number),
            epochs_before: self.rounds.epochs_before(round.number),
            steps_per_epoch: self.rounds.steps_per_epoch(round.number),
            known: round,
            reference: None,
            path: &round.path,
            metrics: &round.metrics,
        }))
    }
}
