//! What the user gave, opened and checked: models, tokenizer, problems to evaluate on, rows.

use std::path::Path;

use anyhow::{Result, ensure};

use super::config::TrainConfig;
use super::course::StepRoom;
use super::models::{Models, Need};
use super::offline::Offline;
use super::online::Online;
use super::rows::Rows;
use super::session::TrainRoom;
use super::settings::TrainSettings;
use crate::data::{Columns, ProblemFile, Tokenizer};
use crate::files::InputFiles;
use crate::grade::Task;
use crate::objective::range::not_negative;
use crate::objective::{Objective, Truncated};
use crate::ranks::Ranks;
use crate::sample::{AskedProblems, Sizes};

/// A run's inputs but its rows.
pub struct Inputs {
    pub config: TrainConfig,
    pub objective: Box<dyn Objective>,
    pub models: Models,
    pub tokenizer: Tokenizer,
    /// What evaluations ask.
    pub eval: Option<AskedProblems>,
    /// Who trains together.
    pub ranks: Ranks,
}

impl Inputs {
    /// Opens and checks what the settings name.
    ///
    /// # Errors
    /// Names the option, or the file, line and field, that is wrong.
    pub fn open(settings: TrainSettings, need: Need) -> Result<Self> {
        let TrainSettings { mut config, mut objective } = settings;
        objective.settle(config.steps.batch_size)?;
        check_objective(&*objective)?;
        if objective.online().is_none() {
            config.evaluation.task.get_or_insert(Task::Gsm8k);
        }
        let models = Models::open(&config, &*objective, need)?;
        let tokenizer = Tokenizer::read(&models.policy.dir, &models.policy.config.eos_token_ids)?;
        let eval = match &config.evaluation.eval_data {
            Some(path) => Some(problems(path, &config, &models, &tokenizer)?),
            None => None,
        };
        Ok(Self { config, objective, models, tokenizer, eval, ranks: Ranks::alone() })
    }

    /// The rows that the run trains on.
    ///
    /// # Errors
    /// Names the option, or the file, line and field, that is wrong.
    pub fn rows(&self) -> Result<Box<dyn Rows>> {
        let Self { config, objective, models, tokenizer, .. } = self;
        Ok(match objective.online() {
            Some(method) => Box::new(Online::open(config, &**objective, method, models, tokenizer)?),
            None => Box::new(Offline::open(config, &**objective, models, tokenizer)?),
        })
    }

    /// The run's directory.
    pub fn output_dir(&self) -> &Path {
        self.config.output_dir.as_deref().unwrap_or(Path::new("."))
    }

    /// The files that the run is made from.
    ///
    /// # Errors
    /// Where a directory cannot be listed.
    pub fn files(&self) -> Result<InputFiles> {
        let Self { config, objective, models, .. } = self;
        let mut files = config.model.input_files(&models.policy.dir)?;
        let reference = objective.reference().and_then(|options| options.ref_model.as_ref());
        if reference.is_some() {
            files = files.with_model("--ref-model", &models.reference.dir)?;
        }
        if let Some(name) = objective.value_network().and_then(|options| options.value_model.as_ref()) {
            let of_adapters = models.adapters.value().is_some();
            let dir = if of_adapters { Path::new(name) } else { &models.value.dir };
            files = files.with_model("--value-model", dir)?;
        }
        let files_of_rows = [("--data", &config.data), ("--eval-data", &config.evaluation.eval_data)];
        let named = files_of_rows.into_iter().filter_map(|(option, path)| Some((option, path.as_ref()?)));
        Ok(named.fold(files, |files, (option, path)| files.with_file(option, path)))
    }

    /// The room that steps take. Several ranks add up a step's gradients between them, not on the device.
    pub fn train_room(&self, rows: &dyn Rows, ranks: usize) -> TrainRoom {
        let StepRoom { capacity, several } = rows.room();
        TrainRoom { capacity, adds_up: several && ranks == 1 }
    }

    /// The room that evaluations and sampled rounds take, where there are any.
    pub fn generation(&self, rows: &dyn Rows) -> Option<Sizes> {
        let of_eval = self.eval.as_ref().map(|asked| {
            let longest = asked.longest();
            let context = match self.objective.online() {
                Some(_) => self.models.context_of_all(),
                None => self.models.policy.config.context_length,
            };
            let tokens = longest.saturating_add(self.config.evaluation.max_new_tokens).min(context);
            Sizes { batch: self.config.evaluation.eval_batch_size.min(asked.len()), prompt: longest, tokens }
        });
        of_eval.into_iter().chain(rows.sampling()).reduce(Sizes::max)
    }
}

/// Checks what the options of several methods say together with the rest.
fn check_objective(objective: &dyn Objective) -> Result<()> {
    ensure!(
        objective.truncated() != Truncated::Bootstrap || objective.value_network().is_some(),
        "--truncated bootstrap is not an option of {}: it has no value network, whose V a response would go on with",
        objective.name()
    );
    if let Some(rate) = objective.value_network().and_then(|options| options.value_learning_rate) {
        not_negative("--value-learning-rate", rate)?;
    }
    Ok(())
}

/// The problems that evaluations ask.
fn problems(path: &Path, config: &TrainConfig, models: &Models, tokenizer: &Tokenizer) -> Result<AskedProblems> {
    ensure!(config.task() != Task::None, "--eval-data needs a --task to grade by: gsm8k or math");
    let file = ProblemFile::read(path, &Columns::default(), config.task())?;
    let asked = AskedProblems::new(file, None, tokenizer, models.policy.config.limits())?;
    asked.file.need_answers()?;
    Ok(asked)
}
