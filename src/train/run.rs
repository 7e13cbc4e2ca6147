//! A training run: what the user gave, opened and checked; its plan.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::adapters::Adapters;
use super::config::{TrainConfig, Truncated};
use super::course::{Course, Length};
use super::logps::{Scorer, WINDOW};
use super::online::{self, Online};
use super::plan::Plan;
use super::rounds::Rounds;
use super::selection::Selection;
use super::session::{EvalRoom, Session, Source, Sources};
use crate::data::{AssumedRows, Capacity, Example, Examples, Mismatched, RowFile, Tokenizer};
use crate::device::{Allocation, Device, Precision};
use crate::gpu::DeviceChoice;
use crate::grade::Task;
use crate::model::{Adapter, Base, ModelConfig};
use crate::objective::{Objective, TrainsOn};
use crate::sample::{AskedProblems, Sizes};
use crate::self_test::open_device;

/// A run that is checked and ready.
pub struct Run {
    pub(super) config: TrainConfig,
    pub(super) device: Device,
    pub(super) objective: Box<dyn Objective>,
    pub(super) data: RowFile,
    /// Everything that the reference scores: the rows' examples, behind them those of mismatched pairs.
    pub(super) examples: Vec<Example>,
    /// What a batch is made of: each row's examples, by number.
    pub(super) rows: Vec<Vec<usize>>,
    pub(super) mismatched: Option<Mismatched>,
    /// What the user should know of the data.
    pub(super) warnings: Vec<String>,
    pub(super) cut_responses: usize,
    pub(super) dropped_rows: usize,
    pub(super) model: Model,
    pub(super) reference: Model,
    /// Where the value network starts from; the policy's model where the user names none.
    pub(super) value: Model,
    pub(super) adapters: Adapters,
    pub(super) tokenizer: Tokenizer,
    /// What evaluations ask.
    pub(super) eval: Option<AskedProblems>,
    /// What an online method samples responses to; it has no rows before its rounds.
    pub(super) problems: Option<AskedProblems>,
}

/// A model directory and its configuration.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) dir: PathBuf,
    pub(super) config: ModelConfig,
}

impl Model {
    fn open(name: &str, find: Find) -> Result<Self> {
        let dir = find(name)?;
        let config = ModelConfig::read(&dir)?;
        Ok(Self { dir, config })
    }

    /// The model with its weights left out.
    fn planned<'a>(&'a self, adapter: Option<&'a Adapter>) -> Source<'a> {
        Source { config: &self.config, checkpoint: None, adapter, base: None }
    }
}

/// How a model's directory is found: with its weights or without.
type Find = fn(&str) -> Result<PathBuf>;

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done; the result is in this directory.
    Finished(PathBuf),
    /// The user stopped it; a checkpoint of this step was saved.
    Interrupted(usize),
}

impl Run {
    /// Opens and checks everything that the configuration names.
    ///
    /// # Errors
    /// Names the option, or the file, line and field, that is wrong.
    pub fn open(config: TrainConfig) -> Result<Self> {
        config.check()?;
        let device = config.device.parse::<DeviceChoice>()?;
        Self::open_on(config, |precision| open_device(&device, precision))
    }

    /// As [`Run::open`], on a device of the caller's in place of the one that the configuration names.
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn open_on(config: TrainConfig, device: impl FnOnce(Precision) -> Result<Device>) -> Result<Self> {
        config.check()?;
        Self::open_with(config, device, crate::hub::model_dir)
    }

    /// As [`Run::open_on`], of a run that is planned only: models need no weights, and where no data is named,
    /// micro-batches are assumed to be full (see [`Examples::assumed`]).
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn open_to_plan(config: TrainConfig, device: impl FnOnce(Precision) -> Result<Device>) -> Result<Self> {
        config.check_to_plan()?;
        Self::open_with(config, device, crate::hub::description_dir)
    }

    fn open_with(
        mut config: TrainConfig,
        device: impl FnOnce(Precision) -> Result<Device>,
        find: Find,
    ) -> Result<Self> {
        config.complete();
        let (Some(method), Some(model)) = (config.method, &config.model) else { unreachable!("checked above") };
        let objective = config.objective(method);
        let model = Model::open(model, find)?;
        let reference =
            config.ref_model.as_deref().map_or_else(|| Ok(model.clone()), |name| Model::open(name, find))?;
        let adapters = Adapters::open(&config, objective.uses_value())?;
        let value_model = config.value_model.as_deref().filter(|_| adapters.value().is_none());
        let value = value_model.map_or_else(|| Ok(model.clone()), |name| open_value_model(name, find))?;
        for (option, other) in [("--ref-model", &reference), ("--value-model", &value)] {
            ensure!(
                other.config.vocab_size == model.config.vocab_size,
                "{option} {}: its vocabulary of {} is not that of --model, {}",
                other.dir.display(),
                other.config.vocab_size,
                model.config.vocab_size
            );
        }

        // Both networks' passes work in the same scratch.
        let shapes =
            |config: &ModelConfig| (config.hidden_size, config.intermediate_size, config.heads, config.qk_norm);
        ensure!(
            shapes(&value.config) == shapes(&model.config),
            "--value-model {}: its layers are not shaped as those of --model; hidden_size, intermediate_size, heads, \
             head_dim and head norms must be the same",
            value.dir.display()
        );

        let tokenizer = Tokenizer::read(&model.dir, &model.config.eos_token_ids)?;
        let problems = if objective.trains_on() == TrainsOn::Sampled {
            let models = [&model.config, &value.config, &reference.config];
            Some(online::problems(&config, &tokenizer, models)?)
        } else {
            None
        };
        let (data, built) = match &config.data {
            Some(path) if problems.is_some() => {
                (RowFile { path: path.clone(), ..RowFile::default() }, Examples::default())
            }
            Some(path) => {
                let data = RowFile::read(path)?;
                let built = Examples::build(&data, &tokenizer, model.config.limits(), config.max_length)?;
                (data, built)
            }
            None => {
                let max_length = config.max_length.min(model.config.context_length).min(value.config.context_length);
                let sequences_per_row = objective.trains_on().sequences_per_row();
                let (rows, tokens) = (config.batch_size, config.tokens_per_micro_batch);
                let built = Examples::assumed(AssumedRows { rows, sequences_per_row, tokens, max_length });
                let paired = sequences_per_row == 2;
                (RowFile { path: "assumed rows".into(), rows: Vec::new(), paired }, built)
            }
        };
        let Examples { examples, cut, .. } = built;
        let Selection { mut examples, rows, left_out, warnings } =
            Selection::new(&data, examples, objective.trains_on(), (method, &config))?;
        let context = model.config.context_length.min(value.config.context_length);
        for example in &examples {
            ensure!(
                example.len() <= context,
                "{}:{}: has {} tokens, and the model computes at most {context}; set --max-length {context}",
                data.path.display(),
                example.line,
                example.len()
            );
        }
        let mismatched = if objective.uses_mismatched() {
            let course = course(&config, (&examples, &rows, None));
            let steps = (0..course.total_steps).map(|done| course.members(done));
            let (mismatched, made) = Mismatched::new(&examples, steps, config.max_length.min(context));
            ensure!(
                config.data.is_none() || !mismatched.has_one_prompt(),
                "{}: every row has the same prompt; {} holds each prompt against a response to another one, so give rows \
                 with at least 2 prompts",
                data.path.display(),
                method.name()
            );
            examples.extend(made);
            Some(mismatched)
        } else {
            None
        };
        let eval = match &config.eval_data {
            Some(path) => {
                ensure!(config.task() != Task::None, "--eval-data needs a --task to grade by: gsm8k or math");
                let asked = AskedProblems::read(path, config.task(), None, &tokenizer, model.config.limits())?;
                asked.file.need_answers()?;
                Some(asked)
            }
            None => None,
        };
        let device = device(config.dtype.precision())?;
        Ok(Self {
            config,
            device,
            objective,
            data,
            examples,
            rows,
            mismatched,
            warnings,
            cut_responses: cut,
            dropped_rows: left_out,
            model,
            reference,
            value,
            adapters,
            tokenizer,
            eval,
            problems,
        })
    }

    pub(super) fn eval_room(&self) -> Option<EvalRoom<'_>> {
        let sizes = |asked: &AskedProblems, count: usize| {
            let longest = asked.longest();
            let tokens = longest.saturating_add(self.config.max_new_tokens).min(self.context());
            Sizes { batch: self.config.eval_batch_size.min(count), prompt: longest, tokens }
        };
        let of_eval = self.eval.as_ref().map(|asked| sizes(asked, asked.len()));
        let of_rounds = self.rounds().map(|(asked, rounds)| sizes(asked, rounds.most_rollouts()));
        let sizes = of_eval.into_iter().chain(of_rounds).reduce(Sizes::max)?;
        Some(EvalRoom { sizes, stop_ids: self.tokenizer.stop_ids() })
    }

    /// Tokens of what the run writes at most: all networks compute what an online method samples.
    fn context(&self) -> usize {
        match &self.problems {
            Some(_) => online::context([&self.model.config, &self.value.config, &self.reference.config]),
            None => self.model.config.context_length,
        }
    }

    /// An online run's problems and rounds.
    pub(super) fn rounds(&self) -> Option<(&AskedProblems, Rounds)> {
        self.problems.as_ref().map(|asked| (asked, Rounds::new(asked.len(), &self.config)))
    }

    /// Optimizer steps of the whole run.
    pub(super) fn total_steps(&self) -> usize {
        self.rounds().map_or_else(|| self.course().total_steps, |(_, rounds)| rounds.total_steps())
    }

    /// The room that every micro-batch fits.
    pub(super) fn capacity(&self) -> Capacity {
        match &self.problems {
            Some(asked) => online::capacity(asked, &self.config, self.context(), self.config.batch_size),
            None => self.course().capacity(),
        }
    }

    /// What makes an online run's rounds, which go to `output_dir`.
    ///
    /// # Errors
    /// Where the reference cannot be read or has no room.
    pub(super) fn online(&self, device: &Device, source: Source, output_dir: &Path) -> Result<Option<Online<'_>>> {
        let Some((asked, rounds)) = self.rounds() else { return Ok(None) };
        let count = rounds.most_rollouts().min(WINDOW);
        let capacity = online::capacity(asked, &self.config, self.context(), count);
        let (dtype, budget) = (self.config.dtype.storage(), self.config.tokens_per_micro_batch);
        let scorer = Scorer::with_capacity(device, source, "reference", dtype, (capacity, budget))?;
        Ok(Some(Online::new(self, (asked, rounds), scorer, output_dir)))
    }

    /// The policy's base, where the reference stands on the same.
    pub(super) fn shared_base(&self, session: &mut Session) -> Option<Base> {
        let shared = self.adapters.policy().is_some() && self.config.ref_model.is_none();
        shared.then(|| session.policy.network.base())
    }

    pub(super) fn course(&self) -> Course<'_> {
        course(&self.config, (&self.examples, &self.rows, self.mismatched.as_ref()))
    }

    pub(super) fn scorer(&self, device: &Device, source: Source) -> Result<Scorer> {
        let size = (&self.examples[..], self.config.tokens_per_micro_batch);
        Scorer::new(device, source, "reference", self.config.dtype.storage(), size)
    }

    /// What the run takes: the same code that allocates it, on a device that only counts.
    ///
    /// # Errors
    /// Where a single tensor is larger than the device can hold.
    pub fn plan(&self) -> Result<Plan> {
        let planned = Device::plan(&self.device);
        let mut phases = Vec::new();
        if self.objective.uses_reference() {
            let _scorer = self.scorer(&planned, self.reference.planned(self.adapters.reference()))?;
            phases.push(planned.allocations());
        }
        let capacity = self.capacity();
        let sources = Sources {
            policy: self.model.planned(self.adapters.policy()),
            value: self.value.planned(self.adapters.value()),
        };
        let room = self.eval_room();
        let mut session = Session::new(&planned, sources, &*self.objective, &self.config, capacity, room)?;
        // An online run's reference stays beside what is trained.
        let base = self.shared_base(&mut session);
        let reference = Source { base: base.as_ref(), ..self.reference.planned(self.adapters.reference()) };
        let _online = self.online(&planned, reference, Path::new(""))?;
        let rounds = self.rounds().map(|(_, rounds)| rounds);
        phases.push(planned.allocations());
        let limits = self.device.limits();
        let bytes = |phase: &Vec<Allocation>| phase.iter().map(|buffer| buffer.bytes).sum::<u64>();
        let known = self.config.data.is_some();
        Ok(Plan {
            device: self.device.description(),
            trainable_parameters: session.trainable_parameters(),
            assumed: self.assumed(),
            rows: known.then(|| rounds.as_ref().map_or(self.rows.len(), Rounds::total_rollouts)),
            cut_responses: self.cut_responses,
            dropped_rows: self.dropped_rows,
            rounds: rounds.filter(|_| known).map(|rounds| rounds.count()),
            steps: self.config.max_steps.or_else(|| known.then(|| self.total_steps())),
            micro_batch_tokens: capacity.tokens,
            peak_bytes: planned.peak_bytes(),
            device_bytes: limits.memory_bytes,
            largest_binding: phases.iter().flatten().max_by_key(|buffer| buffer.bytes).cloned(),
            binding_limit: (limits.tensor_bytes < u64::MAX).then_some(limits.tensor_bytes),
            buffers: phases.into_iter().max_by_key(bytes).unwrap_or_default(),
        })
    }

    /// What the plan takes for granted where no data is named.
    fn assumed(&self) -> Option<String> {
        if self.config.data.is_some() {
            return None;
        }
        let longest = self.examples.iter().map(Example::len).max().unwrap_or(0);
        Some(match &self.problems {
            Some(asked) => format!("no --data: prompts of up to {} tokens", asked.longest()),
            None => {
                format!(
                    "no --data: the fullest micro-batch, of rows of {longest} tokens at most, half of each response"
                )
            }
        })
    }
}

fn course<'a>(config: &TrainConfig, rows: (&'a [Example], &'a [Vec<usize>], Option<&'a Mismatched>)) -> Course<'a> {
    let length = config.max_steps.map_or(Length::Epochs(config.num_train_epochs), Length::Steps);
    let sizes = (config.batch_size, config.tokens_per_micro_batch);
    Course::new(rows, sizes, length, config.seed, config.truncated == Truncated::Bootstrap)
}

fn open_value_model(name: &str, find: Find) -> Result<Model> {
    let model = Model::open(name, find)?;
    model.config.need_value_network(&format!("--value-model {name}"))?;
    Ok(model)
}
