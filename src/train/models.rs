//! The models of a run: the policy, its reference, and where the value network starts from; each a directory and its
//! configuration.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::adapters::Adapters;
use super::config::TrainConfig;
use super::source::Source;
use crate::files::is_gguf;
use crate::hub::{description_dir, model_dir};
use crate::model::{Adapter, Base, Checkpoint, ModelConfig};
use crate::objective::{Objective, ReferenceOptions};

/// A model, a directory or a GGUF file, and its configuration.
#[derive(Clone)]
pub struct Model {
    pub dir: PathBuf,
    pub config: ModelConfig,
    /// Whether frozen matrices stay in the blocks of a GGUF file.
    keeps_blocks: bool,
}

/// The models that a run is made of.
pub struct Models {
    pub policy: Model,
    pub reference: Model,
    /// Where the value network starts from; the policy's model where the user names none.
    pub value: Model,
    pub adapters: Adapters,
}

/// What of a model is needed: to compute with it, or to plan with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Weights,
    Description,
}

impl Model {
    fn open(name: &str, need: Need, keeps_blocks: bool) -> Result<Self> {
        let dir = match need {
            Need::Weights => model_dir(name)?,
            Need::Description => description_dir(name)?,
        };
        let config = ModelConfig::read(&dir)?;
        Ok(Self { dir, config, keeps_blocks })
    }

    /// Opens its weights.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn weights(&self) -> Result<Checkpoint> {
        Ok(Checkpoint::open(&self.dir)?.keeping_blocks(self.keeps_blocks))
    }

    /// What a plan needs of the weights: the blocks of a GGUF file, which say how they are stored.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn planned_weights(&self) -> Result<Option<Checkpoint>> {
        is_gguf(&self.dir).then(|| self.weights()).transpose()
    }

    /// The model, with its weights, or with them left out.
    pub fn source<'a>(
        &'a self,
        checkpoint: Option<&'a Checkpoint>,
        adapter: Option<&'a Adapter>,
        base: Option<&'a Base>,
    ) -> Source<'a> {
        Source { config: &self.config, checkpoint, adapter, base }
    }
}

impl Models {
    /// Opens and checks the models that the settings name.
    ///
    /// # Errors
    /// Names the option, or the file and field, that is wrong.
    pub fn open(config: &TrainConfig, objective: &dyn Objective, need: Need) -> Result<Self> {
        let adapters = Adapters::open(config, objective)?;
        // Of networks that are trained whole the reference is rounded as the policy is.
        let keeps_blocks = config.model.weights.base.is_none() && adapters.policy().is_some();
        let open = |name: &str| Model::open(name, need, keeps_blocks);
        let policy = open(config.model.model.as_deref().unwrap_or_default())?;
        let named = |name: &Option<String>| name.as_deref().map(open).transpose();
        let reference = match objective.reference() {
            Some(options) => named(&options.ref_model)?,
            None => None,
        };
        let value = match objective.value_network().and_then(|options| options.value_model.as_ref()) {
            Some(name) if adapters.value().is_none() => Some(open_value_model(name, open(name)?)?),
            _ => None,
        };
        let models = Self {
            reference: reference.unwrap_or_else(|| policy.clone()),
            value: value.unwrap_or_else(|| policy.clone()),
            policy,
            adapters,
        };
        models.check()?;
        Ok(models)
    }

    fn check(&self) -> Result<()> {
        let Self { policy, reference, value, .. } = self;
        for (option, other) in [("--ref-model", reference), ("--value-model", value)] {
            ensure!(
                other.config.vocab_size == policy.config.vocab_size,
                "{option} {}: its vocabulary of {} is not that of --model, {}",
                other.dir.display(),
                other.config.vocab_size,
                policy.config.vocab_size
            );
        }
        // Both networks' passes work in the same scratch.
        let shapes =
            |config: &ModelConfig| (config.hidden_size, config.intermediate_size, config.heads, config.qk_norm);
        ensure!(
            shapes(&value.config) == shapes(&policy.config),
            "--value-model {}: its layers are not shaped as those of --model; hidden_size, intermediate_size, heads, \
             head_dim and head norms must be the same",
            value.dir.display()
        );
        Ok(())
    }

    /// Tokens that policy and value network compute.
    pub fn context(&self) -> usize {
        self.policy.config.context_length.min(self.value.config.context_length)
    }

    /// Tokens that all of the models compute.
    pub fn context_of_all(&self) -> usize {
        self.context().min(self.reference.config.context_length)
    }

    /// Whether policy and reference stand on one frozen base.
    pub fn shares_base(&self, reference: Option<&ReferenceOptions>) -> bool {
        self.adapters.policy().is_some() && reference.is_none_or(|options| options.ref_model.is_none())
    }

    /// The reference, over these weights or without any.
    pub fn reference_source<'a>(&'a self, checkpoint: Option<&'a Checkpoint>, base: Option<&'a Base>) -> Source<'a> {
        self.reference.source(checkpoint, self.adapters.reference(), base)
    }
}

fn open_value_model(name: &str, model: Model) -> Result<Model> {
    model.config.need_value_network(&format!("--value-model {name}"))?;
    Ok(model)
}

/// How whoever loads adapters finds their base: the model as it was named, wherever they are loaded from.
///
/// # Errors
/// Where the working directory is gone.
pub fn base_name(model: &str) -> Result<String> {
    let path = Path::new(model);
    let is_path = path.is_dir() || is_gguf(path);
    Ok(if is_path { std::path::absolute(path)?.display().to_string() } else { model.to_owned() })
}
