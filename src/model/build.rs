//! Building a network: where its weights come from, and the names of its tensors.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::adapter::Adapter;
use super::checkpoint::Checkpoint;
use super::config::ModelConfig;
use super::parameter::{Parameter, Storage};
use crate::device::{DType, Device, Precision, Tensor};

/// Where a network is built, and from what.
pub struct Build<'a> {
    pub device: &'a Device,
    pub config: &'a ModelConfig,
    /// The weights; `None` leaves them zero, as a memory plan may.
    pub checkpoint: Option<&'a Checkpoint>,
    /// The first part of the network's tensors' names: `policy`, `value`, `reference`.
    pub model: &'a str,
    pub storage: Storage,
    /// Over the weights of the checkpoint, which are frozen then.
    adapter: Option<&'a Adapter>,
    /// Frozen weights to share in place of the checkpoint's.
    base: Option<&'a Base>,
    /// Names that were read, to tell what the files have beyond them.
    read: RefCell<BTreeSet<String>>,
    /// The same, of the adapter's file.
    read_of_adapter: RefCell<BTreeSet<String>>,
}

/// Frozen weights by name, which several networks share.
pub type Base = BTreeMap<String, Parameter>;

impl<'a> Build<'a> {
    /// A build of the network called `model`.
    pub fn new(
        device: &'a Device,
        config: &'a ModelConfig,
        checkpoint: Option<&'a Checkpoint>,
        model: &'a str,
        storage: Storage,
    ) -> Self {
        let (read, read_of_adapter) = Default::default();
        Self { device, config, checkpoint, model, storage, adapter: None, base: None, read, read_of_adapter }
    }

    /// With adapters, over a base that is frozen.
    pub fn with_adapter(self, adapter: Option<&'a Adapter>) -> Self {
        Self { adapter, ..self }
    }

    /// On another network's base in place of a checkpoint.
    pub fn over(self, base: &'a Base) -> Self {
        Self { base: Some(base), ..self }
    }

    /// The rank of the adapters.
    pub(crate) fn low_rank(&self) -> Option<usize> {
        self.adapter.map(|adapter| adapter.config.r)
    }

    /// Whether the adapters leave out some of their inputs in a training step.
    pub(super) fn has_dropout(&self) -> bool {
        self.adapter.is_some_and(|adapter| adapter.config.dropout > 0.0)
    }

    /// The adapters, where the network has any.
    pub(super) fn adapter(&self) -> Option<&'a Adapter> {
        self.adapter
    }

    /// A linear layer's matrix, read from the checkpoint.
    pub(super) fn linear(&self, name: &str, shape: [usize; 2]) -> Result<Parameter> {
        self.read_parameter(name, &shape, |kept| kept.unwrap_or(self.storage.dtype))
    }

    /// A weight beside the linear layers, read from the checkpoint.
    pub(super) fn parameter(&self, name: &str, shape: &[usize]) -> Result<Parameter> {
        self.read_parameter(name, shape, |kept| self.storage.beside_layers(kept.is_some()))
    }

    /// `dtype` gives the type of a matrix from that of the blocks that it stays in.
    fn read_parameter(&self, name: &str, shape: &[usize], dtype: impl Fn(Option<DType>) -> DType) -> Result<Parameter> {
        if let Some(base) = self.base {
            return base.get(name).map(Parameter::share).with_context(|| format!("the base has no {name}"));
        }
        let (model, trainable) =
            if self.adapter.is_some() { ("base", false) } else { (self.model, self.storage.trainable) };
        let kept = self.checkpoint.and_then(|checkpoint| checkpoint.kept_type(name));
        let dtype = dtype(kept.filter(|_| !trainable && self.device.precision() == Precision::F32));
        let storage = Storage { dtype, head: None, trainable };
        if let Some(checkpoint) = self.checkpoint {
            checkpoint.check_shape(name, shape)?;
            self.read.borrow_mut().insert(name.to_owned());
        }
        let mut parameter = Parameter::new(self.device, model, name, shape, storage)?;
        if let Some(checkpoint) = self.checkpoint.filter(|_| !self.device.holds_nothing()) {
            parameter.write(&checkpoint.tensor(name)?.1)?;
        }
        Ok(parameter)
    }

    /// A weight of a head, which the network has for itself: read from the adapter or the checkpoint, else zero.
    pub(super) fn head(&self, name: &str, shape: &[usize]) -> Result<Parameter> {
        let values = if let Some(adapter) = self.adapter.filter(|adapter| adapter.has(name)) {
            self.read_of_adapter.borrow_mut().insert(name.to_owned());
            adapter.shaped(name, shape)?
        } else {
            let checkpoint = self.checkpoint.filter(|checkpoint| checkpoint.contains(name));
            checkpoint.map(|checkpoint| checkpoint.shaped(name, shape)).transpose()?
        };
        self.read.borrow_mut().insert(name.to_owned());
        let mut parameter = Parameter::new(self.device, self.model, name, shape, self.storage)?;
        if let Some(values) = values {
            parameter.write(&values)?;
        }
        Ok(parameter)
    }

    /// A matrix of `adapter`, which is small: in full precision whatever the base is stored as.
    pub(super) fn adapter_matrix(&self, adapter: &Adapter, name: &str, shape: [usize; 2]) -> Result<Parameter> {
        let storage = Storage { dtype: DType::Real, ..self.storage };
        let values = adapter.shaped(name, &shape)?;
        self.read_of_adapter.borrow_mut().insert(name.to_owned());
        let mut parameter = Parameter::matrix(self.device, self.model, name, shape, storage)?;
        match values {
            Some(values) => parameter.write(&values)?,
            None => adapter.initialize(&mut parameter, self.model)?,
        }
        Ok(parameter)
    }

    /// Refuses a checkpoint that has more than the network reads: what it means would be left out.
    pub(super) fn refuse_unread(&self, ignored: &[&str]) -> Result<()> {
        let read = self.read.borrow();
        if let Some(adapter) = self.adapter {
            adapter.refuse_unread(&self.read_of_adapter.borrow())?;
        }
        let Some(checkpoint) = self.checkpoint else { return Ok(()) };
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
    pub(super) fn activation(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensor(&format!("{}/activations/{name}", self.model), shape)
    }

    /// A tensor that all networks' passes share.
    pub(super) fn scratch(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensor(&format!("scratch/{name}"), shape)
    }

    /// A tensor of this name.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.kept(name, shape, DType::Real)
    }

    /// A tensor of this name that may be stored otherwise than it is computed.
    pub(super) fn kept(&self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        self.device.tensor(name, shape, dtype)
    }
}
