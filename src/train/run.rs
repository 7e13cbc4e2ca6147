//! A training run: what the user gave, opened and checked; its plan.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::config::{Method, TrainConfig, Truncated};
use super::course::{Course, Length};
use super::logps::{Scorer, WINDOW};
use super::online::{self, Online};
use super::plan::Plan;
use super::rounds::Rounds;
use super::session::{EvalRoom, Session, Source, Sources};
use crate::data::{Capacity, Example, Examples, RowFile, Tokenizer};
use crate::device::{Device, DeviceChoice, Precision};
use crate::grade::Task;
use crate::model::ModelConfig;
use crate::objective::Objective;
use crate::sample::{AskedProblems, Sizes};

/// A run that is checked and ready.
pub struct Run {
    pub(super) config: TrainConfig,
    pub(super) device: Device,
    pub(super) objective: Box<dyn Objective>,
    pub(super) data: RowFile,
    pub(super) examples: Vec<Example>,
    pub(super) cut_responses: usize,
    pub(super) dropped_rows: usize,
    pub(super) model: Model,
    pub(super) reference: Model,
    /// Where the value network starts from; the policy's model where the user names none.
    pub(super) value: Model,
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
    fn open(name: &str) -> Result<Self> {
        let dir = crate::hub::model_dir(name)?;
        let config = ModelConfig::read(&dir)?;
        Ok(Self { dir, config })
    }

    /// The model with its weights left out.
    fn planned(&self) -> Source<'_> {
        Source { config: &self.config, checkpoint: None }
    }
}

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
        Self::open_on(config, |precision| device.open(precision))
    }

    /// As [`Run::open`], on a device of the caller's in place of the one that the configuration names.
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn open_on(mut config: TrainConfig, device: impl FnOnce(Precision) -> Result<Device>) -> Result<Self> {
        config.check()?;
        config.complete();
        let (Some(method), Some(model), Some(data)) = (config.method, &config.model, &config.data) else {
            unreachable!("checked above")
        };
        let objective = config.objective(method);
        let model = Model::open(model)?;
        let reference = config.ref_model.as_deref().map_or_else(|| Ok(model.clone()), Model::open)?;
        let value = config.value_model.as_deref().map_or_else(|| Ok(model.clone()), open_value_model)?;
        for (option, other) in [("--ref-model", &reference), ("--value-model", &value)] {
            ensure!(
                other.config.vocab_size == model.config.vocab_size,
                "{option} {}: its vocabulary of {} is not that of --model, {}",
                other.dir.display(),
                other.config.vocab_size,
                model.config.vocab_size
            );
        }

        let tokenizer = Tokenizer::read(&model.dir, &model.config)?;
        let problems = if method == Method::Ppo {
            let models = [&model.config, &value.config, &reference.config];
            Some(online::problems(&config, data, &tokenizer, models)?)
        } else {
            None
        };
        let (data, built) = if problems.is_some() {
            (RowFile { path: data.clone(), ..RowFile::default() }, Examples::default())
        } else {
            let data = RowFile::read(data)?;
            let built = Examples::build(&data, &tokenizer, &model.config, config.max_length)?;
            (data, built)
        };
        let Examples { mut examples, cut, dropped } = built;
        let tokenized = examples.len();
        if config.truncated == Truncated::Drop {
            examples.retain(|example| !example.truncated);
            ensure!(!examples.is_empty(), "{}: --truncated drop leaves no row", data.path.display());
        }
        let place = |example: &Example| format!("{}:{}", data.path.display(), example.line);
        for example in &examples {
            if objective.uses_reward() && example.reward.is_none() {
                let method = if method == Method::Dqo { "dqo" } else { "this method" };
                bail!("{}: field `reward`: is missing; {method} needs one in every row (or `label`)", place(example));
            }
            let context = model.config.context_length.min(value.config.context_length);
            ensure!(
                example.len() <= context,
                "{}: has {} tokens, and the model computes at most {context}; set --max-length {context}",
                place(example),
                example.len()
            );
        }
        let eval = match &config.eval_data {
            Some(path) => {
                ensure!(config.task() != Task::None, "--eval-data needs a --task to grade by: gsm8k or math");
                let asked = AskedProblems::read(path, config.task(), None, (&tokenizer, &model.config))?;
                asked.file.need_answers()?;
                Some(asked)
            }
            None => None,
        };
        let device = device(config.dtype.precision())?;
        let dropped_rows = dropped.len() + tokenized - examples.len();
        Ok(Self {
            config,
            device,
            objective,
            data,
            examples,
            cut_responses: cut,
            dropped_rows,
            model,
            reference,
            value,
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

    pub(super) fn course(&self) -> Course<'_> {
        let length = self.config.max_steps.map_or(Length::Epochs(self.config.num_train_epochs), Length::Steps);
        let sizes = (self.config.batch_size, self.config.tokens_per_micro_batch);
        let bootstrap = self.config.truncated == Truncated::Bootstrap;
        Course::new(&self.examples, sizes, length, self.config.seed, bootstrap)
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
        if self.objective.uses_reference() {
            self.scorer(&planned, self.reference.planned())?;
        }
        let capacity = self.capacity();
        let sources = Sources { policy: self.model.planned(), value: self.value.planned() };
        let room = self.eval_room();
        let mut session = Session::new(&planned, sources, &*self.objective, &self.config, capacity, room)?;
        // An online run's reference stays beside what is trained.
        let _online = self.online(&planned, self.reference.planned(), Path::new(""))?;
        let rounds = self.rounds().map(|(_, rounds)| rounds);
        let mut plan = Plan {
            device: self.device.description(),
            trainable_parameters: session.trainable_parameters(),
            rows: rounds.as_ref().map_or(self.examples.len(), Rounds::total_rollouts),
            cut_responses: self.cut_responses,
            dropped_rows: self.dropped_rows,
            rounds: rounds.as_ref().map(Rounds::count),
            steps: self.total_steps(),
            micro_batch_tokens: capacity.tokens,
            peak_bytes: 0,
            device_bytes: None,
            buffers: Vec::new(),
        };
        plan.measure(&planned, self.device.limits());
        Ok(plan)
    }
}

fn open_value_model(name: &str) -> Result<Model> {
    let model = Model::open(name)?;
    model.config.need_value_network(&format!("--value-model {name}"))?;
    Ok(model)
}
