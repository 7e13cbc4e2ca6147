//! The transformer: a decoder described by its configuration, an LM head and a value head, forward and backward.

mod attention;
mod cache;
mod checkpoint;
mod config;
mod decoder;
mod layer;
mod linear;
mod lm_head;
mod mlp;
mod network;
mod norm;
mod parameter;
mod save;
mod stored;

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::{Result, bail};

pub use cache::{Cache, CachePlaces};
pub use checkpoint::{Checkpoint, Values};
pub use config::{Llama3Scaling, ModelConfig, Rope, token_ids};
pub use decoder::{Activations, Decoder, Keep, Scratch};
pub use lm_head::LmHeadActivations;
pub use network::{Policy, PolicyActivations, Value, ValueActivations};
pub use parameter::{Parameter, Shard, Storage};
pub use save::{save_policy, save_value};
pub use stored::write_safetensors;

use crate::data::DeviceBatch;
use crate::device::{DType, Device, Tensor};

/// Where a network is built, and from what.
pub struct Build<'a> {
    pub device: &'a Device,
    pub config: &'a ModelConfig,
    /// The weights; `None` leaves them zero, as a memory plan may.
    pub checkpoint: Option<&'a Checkpoint>,
    /// The first part of the network's tensors' names: `policy`, `value`, `reference`.
    pub model: &'a str,
    pub storage: Storage,
    /// Names that were read, to tell what the file has beyond them.
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Build<'a> {
    /// A build of the network called `model`.
    pub fn new(
        device: &'a Device,
        config: &'a ModelConfig,
        checkpoint: Option<&'a Checkpoint>,
        model: &'a str,
        storage: Storage,
    ) -> Self {
        Self { device, config, checkpoint, model, storage, read: RefCell::default() }
    }

    /// A weight, read from the checkpoint.
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Parameter> {
        let mut parameter = Parameter::new(self.device, self.model, name, shape, self.storage)?;
        if let Some(checkpoint) = self.checkpoint {
            checkpoint.fill(&mut parameter)?;
            self.read.borrow_mut().insert(name.to_owned());
        }
        Ok(parameter)
    }

    /// A weight that is zero where the checkpoint does not have it.
    fn parameter_or_zero(&self, name: &str, shape: &[usize]) -> Result<Parameter> {
        if self.checkpoint.is_some_and(|checkpoint| checkpoint.contains(name)) {
            self.parameter(name, shape)
        } else {
            Parameter::new(self.device, self.model, name, shape, self.storage)
        }
    }

    /// Refuses a checkpoint that has more than the network reads: what it means would be left out.
    fn refuse_unread(&self, ignored: &[&str]) -> Result<()> {
        let Some(checkpoint) = self.checkpoint else { return Ok(()) };
        let read = self.read.borrow();
        for name in checkpoint.names() {
            if !read.contains(name) && !ignored.contains(&name) && !name.ends_with(".rotary_emb.inv_freq") {
                bail!(
                    "{}: {name} is not a tensor of a {} model as config.json describes it",
                    checkpoint.path_of(name).display(),
                    self.config.family
                );
            }
        }
        Ok(())
    }

    /// A tensor that one network's passes fill.
    fn activation(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensor(&format!("{}/activations/{name}", self.model), shape)
    }

    /// A tensor that all networks' passes share.
    fn scratch(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensor(&format!("scratch/{name}"), shape)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.device.tensor(name, shape, DType::Real)
    }
}

/// What every layer of a pass shares.
pub struct Pass<'a> {
    pub device: &'a Device,
    pub batch: &'a DeviceBatch,
    /// `[positions, head_dim]`
    pub rope: &'a Tensor,
    /// Where the keys and values of the tokens go, where they are kept.
    pub places: Option<&'a CachePlaces>,
}
