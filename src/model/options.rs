//! Which model a verb works with, and where: the same options for every verb.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::{Deserialize, Serialize};

use super::adapter::Adapter;
use super::config::ModelConfig;
use super::weight_type::WeightOptions;
use crate::data::Tokenizer;
use crate::device::{Device, MatmulPrecision, Precision};
use crate::files::InputFiles;
use crate::gpu::DeviceChoice;
use crate::hub::model_dir;
use crate::self_test::{open_compiler, open_device};

/// A model, adapters over it, and where they run.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelOptions {
    /// A Hugging Face directory, a GGUF file, or an id such as Qwen/Qwen2-0.5B
    #[arg(long, value_name = "PATH|ID", value_parser = NonEmptyStringValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Adapters over the model: a PEFT directory (for `train` those to go on from)
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub device: DeviceOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub weights: WeightOptions,
}

/// Where a verb runs.
#[derive(Args, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceOptions {
    /// auto, gpu, cpu, or an adapter's number or name
    #[arg(long, default_value = AUTO)]
    pub device: String,
    /// How precise large products are: f32, or in f16 parts, for GPUs' matrix units
    #[arg(long, value_enum, default_value_t)]
    pub matmul_precision: MatmulPrecision,
}

const AUTO: &str = "auto";

/// A model's files, before its weights are read.
pub struct ModelFiles {
    /// Where they are.
    pub dir: PathBuf,
    pub config: ModelConfig,
    pub tokenizer: Tokenizer,
    /// Over the model.
    pub adapter: Option<Adapter>,
}

impl ModelOptions {
    /// Opens the files that the options name; an id is fetched.
    ///
    /// # Errors
    /// Names the option or the file that is missing or wrong.
    pub fn open(&self) -> Result<ModelFiles> {
        ModelFiles::open(self.model.as_deref().context("--model is missing")?, self.adapter.as_deref())
    }

    /// The files of the model in `dir`, which is the one that the options name, and of the adapters.
    ///
    /// # Errors
    /// Where a directory cannot be listed.
    pub fn input_files(&self, dir: &Path) -> Result<InputFiles> {
        let files = InputFiles::default().with_model("--model", dir)?;
        match &self.adapter {
            Some(adapter) => files.with_model("--adapter", adapter),
            None => Ok(files),
        }
    }

    /// Opens the device, in the precision of the weights.
    ///
    /// # Errors
    /// As [`open_device`].
    pub fn open_device(&self) -> Result<Device> {
        self.device.open(self.weights.dtype.precision())
    }
}

impl DeviceOptions {
    /// Opens the device.
    ///
    /// # Errors
    /// As [`open_device`].
    pub fn open(&self, precision: Precision) -> Result<Device> {
        open_device(&self.device.parse::<DeviceChoice>()?, precision, self.matmul_precision)
    }

    /// Opens the adapter to build pipelines alone.
    ///
    /// # Errors
    /// As [`open_compiler`].
    pub fn open_compiler(&self) -> Result<Device> {
        open_compiler(&self.device.parse::<DeviceChoice>()?, self.matmul_precision)
    }
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self { device: AUTO.to_owned(), matmul_precision: MatmulPrecision::default() }
    }
}

impl ModelFiles {
    /// Opens a model, a directory or an id that is fetched, and adapters over it.
    ///
    /// # Errors
    /// Names the file that is missing or wrong.
    pub fn open(model: &str, adapter: Option<&Path>) -> Result<Self> {
        let dir = model_dir(model)?;
        let config = ModelConfig::read(&dir)?;
        let tokenizer = Tokenizer::read(&dir, &config.eos_token_ids)?;
        let adapter = adapter.map(Adapter::open).transpose()?;
        Ok(Self { dir, config, tokenizer, adapter })
    }
}
