//! A training run: what the user gave, opened and checked; its plan.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::config::{TrainConfig, Truncated};
use super::course::{Course, Length};
use super::logps::Scorer;
use super::plan::Plan;
use super::selection::Selection;
use super::session::{EvalRoom, Session, Source, Sources};
use crate::data::{Example, Examples, Mismatched, RowFile, Tokenizer};
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
    pub(super) tokenizer: Tokenizer,
    /// What evaluations ask.
    pub(super) eval: Option<AskedProblems>,
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
        let data = RowFile::read(data)?;
        let Examples { examples, cut, .. } = Examples::build(&data, &tokenizer, &model.config, config.max_length)?;
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
                !mismatched.has_one_prompt(),
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
                ensure!(config.task != Task::None, "--eval-data needs a --task to grade by: gsm8k or math");
                let asked = AskedProblems::read(path, config.task, None, (&tokenizer, &model.config))?;
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
            tokenizer,
            eval,
        })
    }

    pub(super) fn eval_room(&self) -> Option<EvalRoom<'_>> {
        let asked = self.eval.as_ref()?;
        let longest = asked.longest();
        let tokens = longest.saturating_add(self.config.max_new_tokens).min(self.model.config.context_length);
        let sizes = Sizes { batch: self.config.eval_batch_size.min(asked.len()), prompt: longest, tokens };
        Some(EvalRoom { sizes, stop_ids: self.tokenizer.stop_ids() })
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
        if self.objective.uses_reference() {
            self.scorer(&planned, self.reference.planned())?;
        }
        let course = self.course();
        let capacity = course.capacity();
        let sources = Sources { policy: self.model.planned(), value: self.value.planned() };
        let room = self.eval_room();
        let mut session = Session::new(&planned, sources, &*self.objective, &self.config, capacity, room)?;
        let mut plan = Plan {
            device: self.device.description(),
            trainable_parameters: session.trainable_parameters(),
            rows: self.rows.len(),
            cut_responses: self.cut_responses,
            dropped_rows: self.dropped_rows,
            steps: course.total_steps,
            micro_batch_tokens: capacity.tokens,
            peak_bytes: 0,
            device_bytes: None,
            buffers: Vec::new(),
        };
        plan.measure(&planned, self.device.limits());
        Ok(plan)
    }
}

fn course<'a>(config: &TrainConfig, rows: (&'a [Example], &'a [Vec<usize>], Option<&'a Mismatched>)) -> Course<'a> {
    let length = config.max_steps.map_or(Length::Epochs(config.num_train_epochs), Length::Steps);
    let sizes = (config.batch_size, config.tokens_per_micro_batch);
    Course::new(rows, sizes, length, config.seed, config.truncated == Truncated::Bootstrap)
}

fn open_value_model(name: &str) -> Result<Model> {
    let model = Model::open(name)?;
    model.config.need_value_network(&format!("--value-model {name}"))?;
    Ok(model)
}
