//! A policy that is ready to write: its files opened and checked, its memory planned, then allocated.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::generator::{Generator, Sizes};
use super::settings::SamplingSettings;
use crate::data::Tokenizer;
use crate::device::Device;
use crate::format::format_bytes;
use crate::gpu::DeviceChoice;
use crate::model::WeightType;
use crate::model::{Adapter, Build, Checkpoint, ModelConfig, Policy, Storage};
use crate::self_test::open_device;

/// Which policy writes, and where.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyOptions {
    /// The policy: a Hugging Face directory, or an id such as Qwen/Qwen2-0.5B-Instruct
    #[arg(long, value_name = "DIR|ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Adapters over the model: a PEFT directory
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Where to run: auto, gpu, cpu, or an adapter's number or name (see `devices`)
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// How weights are stored
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: WeightType,
    /// The seed of everything random
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Responses that are written at the same time at most; it changes nothing else
    #[arg(long, default_value_t = 32)]
    pub batch_size: usize,
}

/// A policy's files, before its weights are read.
pub struct PolicyFiles {
    pub dir: PathBuf,
    pub config: ModelConfig,
    pub tokenizer: Tokenizer,
    pub adapter: Option<Adapter>,
}

impl PolicyFiles {
    /// Opens the model that the options name.
    ///
    /// # Errors
    /// Names the option or the file that is missing or wrong.
    pub fn open(options: &PolicyOptions) -> Result<Self> {
        let model = options.model.as_deref().context("--model is missing")?;
        ensure!(
            (1..=super::MAX_BATCH).contains(&options.batch_size),
            "--batch-size is {}; it must be from 1 to {}",
            options.batch_size,
            super::MAX_BATCH
        );
        let dir = crate::hub::model_dir(model)?;
        let config = ModelConfig::read(&dir)?;
        let tokenizer = Tokenizer::read(&dir, &config)?;
        let adapter = options.adapter.as_deref().map(Adapter::open).transpose()?;
        Ok(Self { dir, config, tokenizer, adapter })
    }

    /// Reads the weights and allocates generation for `count` responses to prompts of at most `longest` tokens.
    ///
    /// # Errors
    /// Where a tensor is missing or wrong, or the device is too small.
    pub fn load(
        self,
        options: &PolicyOptions,
        settings: &SamplingSettings,
        longest: usize,
        count: usize,
    ) -> Result<Writer> {
        let sizes = Sizes {
            batch: options.batch_size.min(count.max(1)),
            prompt: longest,
            tokens: longest.saturating_add(settings.max_new_tokens).min(self.config.context_length),
        };
        let device = open_device(&options.device.parse::<DeviceChoice>()?, options.dtype.precision())?;
        let storage = Storage { dtype: options.dtype.storage(), trainable: false };
        let stop_ids = self.tokenizer.stop_ids().to_vec();
        let allocate = |device: &Device, checkpoint: Option<&Checkpoint>| -> Result<(Policy, Generator)> {
            let build =
                Build::new(device, &self.config, checkpoint, "policy", storage).with_adapter(self.adapter.as_ref());
            Ok((Policy::load(&build, sizes.tokens)?, Generator::new(&build, stop_ids.clone(), sizes)?))
        };
        let planned = Device::plan(&device);
        allocate(&planned, None)?;
        if let Some(memory) = device.limits().memory_bytes {
            ensure!(
                planned.peak_bytes() <= memory,
                "generation takes {} and {} has {}; use a smaller --batch-size or --max-new-tokens",
                format_bytes(planned.peak_bytes()),
                device.description(),
                format_bytes(memory)
            );
        }
        let checkpoint = Checkpoint::open(&self.dir)?;
        let (policy, generator) = allocate(&device, Some(&checkpoint))?;
        Ok(Writer { tokenizer: self.tokenizer, policy, generator })
    }
}

/// Checks that a prompt leaves room for a response in a model's context.
///
/// # Errors
/// Begins with `place` where it does not.
pub fn check_prompt(prompt_ids: &[u32], config: &ModelConfig, place: impl FnOnce() -> String) -> Result<()> {
    let context = config.context_length;
    ensure!(!prompt_ids.is_empty(), "{}: the prompt has no tokens", place());
    ensure!(
        prompt_ids.len() < context,
        "{}: the prompt has {} tokens, and the model's context of {context} leaves no room for a response",
        place(),
        prompt_ids.len()
    );
    Ok(())
}

/// A policy with the memory to write.
pub struct Writer {
    pub tokenizer: Tokenizer,
    pub policy: Policy,
    pub generator: Generator,
}
