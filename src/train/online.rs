//! Rounds of an online run: responses that the policy itself writes, graded, and scored before it moves on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use super::config::TrainConfig;
use super::course::{Course, Length, MicroBatch};
use super::log::MetricsRow;
use super::logps::Scorer;
use super::reference::starts;
use super::rounds::Rounds;
use super::run::Run;
use super::session::Session;
use crate::data::{Capacity, Example, Examples, RowFile, Tokenizer};
use crate::files;
use crate::model::{Checkpoint, ModelConfig};
use crate::objective::{Estimation, Scored, whiten};
use crate::sample::{AskedProblems, Generated, Request, SamplingSettings, check_prompt, rollout_row};

/// What makes rounds: the problems, and the reference policy, which stays in memory.
pub struct Online<'a> {
    run: &'a Run,
    asked: &'a AskedProblems,
    pub rounds: Rounds,
    reference: Scorer,
    /// `OUT/rollouts`
    dir: PathBuf,
}

/// A round that is ready to be trained on.
pub struct SampledRound {
    /// Its number, from 0.
    pub number: usize,
    /// Where its rows are.
    pub path: PathBuf,
    pub examples: Vec<Example>,
    /// log pi_old, whitened advantage, return and V_old of every response token, example after example.
    actions: Vec<[f64; 4]>,
    /// Where each example's tokens start in `actions`, and where the last one's end.
    starts: Vec<usize>,
    /// What a batch is made of: the examples, each by itself.
    rows: Vec<Vec<usize>>,
    /// What is known of the round as a whole.
    pub metrics: MetricsRow,
}

/// What the networks say of a round's response tokens before its first step, example after example.
struct Scores {
    logps_old: Vec<f64>,
    logps_ref: Vec<f64>,
    values_old: Vec<f64>,
}

const LOGPS_OLD: &str = "logps_old";
const LOGPS_REF: &str = "logps_ref";
const VALUES_OLD: &str = "values_old";
const ROWS_SHA256: &str = "rows_sha256";

/// Reads an online run's problems, or assumes prompts that fill `--max-length` with their responses where a plan names no
/// data. `models` are all that compute the responses.
///
/// # Errors
/// Names the option, or the file, line and field, that is wrong.
pub fn problems(config: &TrainConfig, tokenizer: &Tokenizer, models: [&ModelConfig; 3]) -> Result<AskedProblems> {
    let [policy, others @ ..] = models;
    let Some(path) = &config.data else {
        let most = config.max_length.min(context(models));
        return Ok(AskedProblems::assumed(most.saturating_sub(config.max_new_tokens).max(1)));
    };
    let asked = AskedProblems::read(path, config.task(), None, (tokenizer, policy))?;
    asked.file.need_answers()?;
    for (problem, ids) in asked.file.problems.iter().zip(&asked.prompts) {
        others.iter().try_for_each(|model| check_prompt(ids, model, || asked.file.place(problem)))?;
    }
    let longest = longest(&asked, config, context(models));
    ensure!(
        longest <= config.max_length,
        "--max-length is {}, and the longest prompt ({} tokens) with a response of up to {} (--max-new-tokens) has \
         {longest}; set --max-length {longest}",
        config.max_length,
        asked.longest(),
        config.max_new_tokens
    );
    Ok(asked)
}

/// Tokens that every one of the models computes.
pub fn context(models: [&ModelConfig; 3]) -> usize {
    models.map(|model| model.context_length).into_iter().fold(usize::MAX, usize::min)
}

/// Tokens of a prompt and its response at most.
fn longest(asked: &AskedProblems, config: &TrainConfig, context: usize) -> usize {
    asked.longest().saturating_add(config.max_new_tokens).min(context)
}

/// The room that every micro-batch of up to `count` responses fits, whatever their lengths are.
pub fn capacity(asked: &AskedProblems, config: &TrainConfig, context: usize, count: usize) -> Capacity {
    let shortest_prompt = asked.prompts.iter().map(Vec::len).min().unwrap_or(1);
    let (responses, longest) = (config.max_new_tokens, longest(asked, config, context) - 1);
    let tokens = config.tokens_per_micro_batch.max(longest).min(count.saturating_mul(longest));
    Capacity {
        tokens,
        // The longest response to the shortest prompt has the largest share of response tokens.
        positions: (tokens.saturating_mul(responses) / (shortest_prompt - 1 + responses)).min(count * responses),
        sequences: count.min(tokens / shortest_prompt),
        longest,
    }
}

impl<'a> Online<'a> {
    /// The rounds of a run whose directory is `output_dir`, with a reference that is ready to score them.
    pub fn new(
        run: &'a Run,
        (asked, rounds): (&'a AskedProblems, Rounds),
        reference: Scorer,
        output_dir: &Path,
    ) -> Self {
        Self { run, asked, rounds, reference, dir: output_dir.join("rollouts") }
    }

    /// The round of the step behind `done` finished ones: a new one is sampled, graded, scored and kept; one that is in the
    /// middle is what was kept of it. `None` where `go_on` says no while it is sampled; `tick` hears of every response, with
    /// how many there are and how many are wanted.
    ///
    /// # Errors
    /// Where the device fails, a score is not finite, or a file cannot be written, read, or is another's.
    pub fn round(
        &mut self,
        session: &mut Session,
        done: usize,
        go_on: impl Fn() -> bool,
        tick: impl FnMut(usize, usize),
    ) -> Result<Option<SampledRound>> {
        let number = self.rounds.round_of(done);
        let path = self.dir.join(format!("round-{:06}.jsonl", number + 1));
        let is_new = self.rounds.steps(number).start == done;
        if is_new {
            let Some(rows) = self.sample(session, number, go_on, tick)? else { return Ok(None) };
            fs::create_dir_all(&self.dir).with_context(|| format!("{}: cannot be made", self.dir.display()))?;
            files::write_file(&path, rows.as_bytes())?;
        }
        let Run { tokenizer, model, config, .. } = self.run;
        let Examples { examples, .. } =
            Examples::build(&RowFile::read(&path)?, tokenizer, &model.config, config.max_length)?;
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
            let scores = self.score(session, number, &examples, &starts, &path)?;
            scores.write(&scores_path, &path)?;
            scores
        } else {
            Scores::read(&scores_path, &path, starts[examples.len()])?
        };
        Ok(Some(SampledRound::new(number, path, (examples, starts), &scores, config)))
    }

    /// A round's steps.
    pub fn course<'b>(&self, round: &'b SampledRound) -> Course<'b> {
        self.course_over(round.number, &round.examples, &round.rows)
    }

    fn course_over<'b>(&self, number: usize, examples: &'b [Example], rows: &'b [Vec<usize>]) -> Course<'b> {
        let config = &self.run.config;
        let sizes = (config.batch_size, config.tokens_per_micro_batch);
        Course::new((examples, rows, None), sizes, Length::Epochs(config.ppo_epochs), self.rounds.seed(number), false)
    }

    /// A round's rows.
    fn sample(
        &self,
        session: &mut Session,
        number: usize,
        go_on: impl Fn() -> bool,
        mut tick: impl FnMut(usize, usize),
    ) -> Result<Option<String>> {
        let Run { config, tokenizer, .. } = self.run;
        let wanted = self.rounds.wanted(number);
        let requests = wanted.iter().map(|wanted| Request {
            prompt_ids: self.asked.prompts[wanted.problem].clone(),
            stream: (self.asked.problem(wanted.problem).line as u64) << 32 | wanted.sample as u64,
        });
        let mut rows = vec![String::new(); wanted.len()];
        let mut written = 0;
        let finished = |response: Generated| {
            let (place, request) = (wanted[response.request], response.request);
            let (problem, prompt_ids) = (self.asked.problem(place.problem), &self.asked.prompts[place.problem]);
            let row = rollout_row(config.task(), problem, (prompt_ids, place.sample), response, tokenizer)?;
            rows[request] = row.to_string() + "\n";
            written += 1;
            tick(written, wanted.len());
            Ok(true)
        };
        let generator = session.generator.as_mut().context("an online run has a generator")?;
        let settings = SamplingSettings::whole_distribution(config.max_new_tokens);
        generator
            .run(&session.policy.network, requests, &settings, config.seed, |_, _| Ok(go_on()), finished)
            .with_context(|| format!("round {}", number + 1))?;
        Ok((written == wanted.len()).then(|| rows.concat()))
    }

    /// Scores a new round: by the training's own forward passes over the micro-batches of its first epoch, so that the first
    /// ratios are exactly 1; and by the reference.
    fn score(
        &mut self,
        session: &mut Session,
        number: usize,
        examples: &[Example],
        starts: &[usize],
        path: &Path,
    ) -> Result<Scores> {
        let tokens = starts[examples.len()];
        let mut logps_ref = Vec::with_capacity(tokens);
        self.reference.score(examples, |_, scored| {
            logps_ref.extend(scored.into_iter().flat_map(|scored| scored.logps));
            Ok(())
        })?;

        let (mut logps_old, mut values_old) = (vec![0.0; tokens], vec![0.0; tokens]);
        let rows = each_by_itself(examples.len());
        let course = self.course_over(number, examples, &rows);
        let Session { policy, value, scratch, batch, .. } = session;
        let value = value.as_mut().context("an online run has a value network")?;
        for micro_batch in (0..course.steps_per_epoch).flat_map(|done| course.step(done)) {
            batch.load(&micro_batch.sequences)?;
            policy.network.forward(batch, &mut policy.activations, scratch);
            value.network.forward(batch, &mut value.activations, scratch);
            let logps = policy.activations.head.logp.read(batch.positions)?;
            let values = value.activations.value.read(batch.positions)?;
            let mut first = 0;
            for &example in &micro_batch.examples {
                let places = starts[example]..starts[example + 1];
                let read = first..first + places.len();
                first = read.end;
                ensure!(
                    logps[read.clone()].iter().chain(&values[read.clone()]).all(|score| score.is_finite()),
                    "the log-probs or values of the row on line {} of {} are not finite; try a smaller --learning-rate or \
                     --value-learning-rate",
                    examples[example].line,
                    path.display()
                );
                logps_old[places.clone()].copy_from_slice(&logps[read.clone()]);
                values_old[places].copy_from_slice(&values[read]);
            }
        }
        Ok(Scores { logps_old, logps_ref, values_old })
    }
}

impl SampledRound {
    fn new(
        number: usize,
        path: PathBuf,
        (examples, starts): (Vec<Example>, Vec<usize>),
        scores: &Scores,
        config: &TrainConfig,
    ) -> Self {
        let Scores { logps_old, logps_ref, values_old } = scores;
        let estimation = Estimation { beta: config.beta.unwrap_or(0.0), lambda: config.lambda };
        let (mut advantages, mut returns) = (Vec::new(), Vec::new());
        let (mut kl, mut rewards) = (0.0, 0.0);
        for (example, range) in examples.iter().zip(starts.windows(2)) {
            let range = range[0]..range[1];
            let reward = example.reward.unwrap_or(0.0);
            let (logps_old, logps_ref) = (&logps_old[range.clone()], &logps_ref[range.clone()]);
            let scored = Scored { logps_old, logps_ref, values_old: &values_old[range], reward };
            for (advantage, target) in estimation.estimate(scored) {
                advantages.push(advantage);
                returns.push(target);
            }
            kl += logps_old.iter().zip(logps_ref).map(|(old, reference)| old - reference).sum::<f64>();
            rewards += reward;
        }
        whiten(&mut advantages);
        let action = |t: usize| [logps_old[t], advantages[t], returns[t], values_old[t]];
        let actions = (0..advantages.len()).map(action).collect();
        let count = examples.len() as f64;
        let metrics = vec![("round", (number + 1) as f64), ("kl", kl / count), ("rewards/mean", rewards / count)];
        let rows = each_by_itself(examples.len());
        Self { number, path, examples, actions, starts, rows, metrics }
    }

    /// The share of its responses that are right.
    pub fn accuracy(&self) -> f64 {
        let right = self.examples.iter().filter(|example| example.reward.is_some_and(|reward| reward > 0.5)).count();
        right as f64 / self.examples.len() as f64
    }

    /// What is known of a micro-batch's actions, as [`Ppo`](crate::objective::Ppo) takes it.
    pub fn rollout(&self, micro_batch: &MicroBatch) -> Vec<f64> {
        let of = |&example: &usize| &self.actions[self.starts[example]..self.starts[example + 1]];
        micro_batch.examples.iter().flat_map(of).flatten().copied().collect()
    }
}

impl Scores {
    /// Keeps the scores of the rows in `rows`.
    fn write(&self, path: &Path, rows: &Path) -> Result<()> {
        let tensors = [(LOGPS_OLD, &self.logps_old), (LOGPS_REF, &self.logps_ref), (VALUES_OLD, &self.values_old)];
        let mut views = Vec::new();
        for (name, values) in tensors {
            let view = TensorView::new(Dtype::F64, vec![values.len()], bytemuck::cast_slice(values))?;
            views.push((name, view));
        }
        let metadata = [(ROWS_SHA256.to_owned(), sha256(rows)?)].into();
        files::write_file(path, &safetensors::serialize(views, Some(metadata))?)
    }

    /// The scores that were kept of the rows in `rows`, which have `count` response tokens.
    fn read(path: &Path, rows: &Path, count: usize) -> Result<Self> {
        let file = Checkpoint::open_file(path)?;
        let belongs = file.metadata(ROWS_SHA256) == Some(sha256(rows)?);
        let tensor = |name: &str| {
            let (shape, values) = file.tensor(name).with_context(|| path.display().to_string())?;
            ensure!(
                belongs && shape == [count],
                "{}: was made of other rows than {} has; a run goes on with the rows it sampled",
                path.display(),
                rows.display()
            );
            Ok(values.range(0, count).collect::<Vec<f64>>())
        };
        Ok(Self { logps_old: tensor(LOGPS_OLD)?, logps_ref: tensor(LOGPS_REF)?, values_old: tensor(VALUES_OLD)? })
    }
}

fn each_by_itself(count: usize) -> Vec<Vec<usize>> {
    (0..count).map(|number| vec![number]).collect()
}

fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
