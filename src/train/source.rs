//! Where a network's weights come from.

use crate::device::Device;
use crate::model::{Adapter, Base, Build, Checkpoint, ModelConfig, Storage};

/// A model's description and weights; a plan needs no weights.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub config: &'a ModelConfig,
    pub checkpoint: Option<&'a Checkpoint>,
    /// Over the model, which is frozen then.
    pub adapter: Option<&'a Adapter>,
    /// Another network's frozen weights, in place of a checkpoint's.
    pub base: Option<&'a Base>,
}

impl<'a> Source<'a> {
    /// Where there is a base, that of the network it belongs to: what is read is its own adapters alone.
    pub fn on(self, base: Option<&'a Base>, of: &Source<'a>) -> Self {
        if base.is_some() { Self { config: of.config, checkpoint: None, base, ..self } } else { self }
    }

    /// The build of the network called `name`, from here.
    pub fn build(&self, device: &'a Device, name: &'a str, storage: Storage) -> Build<'a> {
        let build = match self.base {
            Some(base) => Build::new(device, self.config, None, name, storage).over(base),
            None => Build::new(device, self.config, self.checkpoint, name, storage),
        };
        build.with_adapter(self.adapter)
    }
}
