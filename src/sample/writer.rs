//! A policy that is ready to write: its files opened and checked, its memory planned, then allocated.

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::generator::{Generator, MAX_BATCH, Sizes};
use super::settings::SamplingSettings;
use crate::data::Tokenizer;
use crate::device::Device;
use crate::format::format_bytes;
use crate::model::{Build, ModelFiles, ModelOptions, Policy};

/// Which policy writes, and how.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyOptions {
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelOptions,
    /// The seed of everything random
    #[arg(long, default_value_t = 42, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    /// Responses that are written together; changes nothing else
    #[arg(long, default_value_t = 32)]
    pub batch_size: usize,
}

impl PolicyOptions {
    /// Opens the model's files.
    ///
    /// # Errors
    /// Names the option or the file that is missing or wrong.
    pub fn open(&self) -> Result<ModelFiles> {
        ensure!(
            (1..=MAX_BATCH).contains(&self.batch_size),
            "--batch-size is {}; it must be from 1 to {MAX_BATCH}",
            self.batch_size
        );
        self.model.open()
    }

    /// Reads the weights of what [`PolicyOptions::open`] gave, and allocates generation for `count` responses to prompts
    /// of at most `longest` tokens.
    ///
    /// # Errors
    /// Where a tensor is missing or wrong, or the device is too small.
    pub fn load(&self, files: ModelFiles, settings: &SamplingSettings, longest: usize, count: usize) -> Result<Writer> {
        let ModelFiles { dir, config, tokenizer, adapter } = files;
        let sizes = Sizes {
            batch: self.batch_size.min(count.max(1)),
            prompt: longest,
            tokens: longest.saturating_add(settings.max_new_tokens).min(config.context_length),
        };
        let device = self.model.open_device()?;
        let storage = self.model.weights.storage();
        let checkpoint = self.model.weights.open(&dir)?;
        let allocate = |device: &Device| -> Result<(Policy, Generator)> {
            let build =
                Build::new(device, &config, Some(&checkpoint), "policy", storage).with_adapter(adapter.as_ref());
            let policy = Policy::load(&build, sizes.tokens)?;
            Ok((policy, Generator::new(&build, tokenizer.stop_ids().to_vec(), sizes)?))
        };
        let planned = Device::plan(&device);
        allocate(&planned)?;
        if let Some(memory) = device.limits().memory_bytes {
            ensure!(
                planned.peak_bytes() <= memory,
                "generation takes {} and {} has {}; use a smaller --batch-size or --max-new-tokens",
                format_bytes(planned.peak_bytes()),
                device.description(),
                format_bytes(memory)
            );
        }
        let (policy, generator) = allocate(&device)?;
        Ok(Writer { device, tokenizer, policy, generator })
    }
}

/// A policy with the memory to write.
pub struct Writer {
    /// Where it writes.
    pub device: Device,
    pub tokenizer: Tokenizer,
    pub policy: Policy,
    pub generator: Generator,
}
