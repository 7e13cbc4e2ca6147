//! Adapters merged into their base: `W + s B A`, tensor by tensor, without the model in memory.

use std::borrow::Cow;
use std::path::Path;

use anyhow::Result;
use safetensors::Dtype;

use super::adapter::Adapter;
use super::build::Build;
use super::checkpoint::Checkpoint;
use super::config::ModelConfig;
use super::network::{LM_HEAD, Policy, SCORE_BIAS, SCORE_WEIGHT, Value};
use super::parameter::Storage;
use super::save::{describe, policy_changes, value_changes};
use super::stored::{Stored, pytorch, write_safetensors};
use super::values::{Values, encode};
use crate::device::{DType, Device, Precision};
use crate::gguf::ValueFormat;

/// Writes the network that `adapter` makes of the model in `source`, a policy or a value network, as a whole model
/// directory. Weights are stored as the model's are, or as `dtype`.
///
/// # Errors
/// Where adapter and model do not fit, or names the file that cannot be read or written.
pub fn merge_adapter(source: &Path, adapter: &Adapter, dtype: Option<Dtype>, dir: &Path) -> Result<()> {
    let config = ModelConfig::read(source)?;
    let checkpoint = Checkpoint::open(source)?;
    let merged = merged(&config, &checkpoint, Some(adapter))?;
    let stored: Vec<_> = merged.iter().map(|tensor| tensor.stored_as(dtype)).collect();
    let matrix = stored.iter().find(|tensor| tensor.stored_shape().len() > 1);
    let of_matrices = matrix.map_or(Dtype::F32, |matrix| matrix.dtype);
    let tensors = stored.iter().map(|tensor| (tensor.merged.name.to_owned(), tensor as &dyn Stored));
    write_safetensors(&dir.join("model.safetensors"), tensors, Some(pytorch()))?;
    let changes = if adapter.is_value_network() { value_changes(&config) } else { policy_changes(&config) };
    describe(&config, changes, of_matrices, source, dir)
}

/// The tensors of the network that `adapter` makes of a model, or of the model itself.
///
/// # Errors
/// Where they do not fit.
pub(super) fn merged<'a>(
    config: &'a ModelConfig,
    checkpoint: &'a Checkpoint,
    adapter: Option<&'a Adapter>,
) -> Result<Vec<Merged<'a>>> {
    // What a network of the two reads is checked by building one that holds nothing.
    let device = Device::plan(&Device::cpu(Precision::F32));
    let storage = Storage::frozen(DType::Real);
    let build = Build::new(&device, config, Some(checkpoint), "merged", storage).with_adapter(adapter);
    let is_value = adapter.is_some_and(Adapter::is_value_network);
    if is_value {
        Value::load(&build, 1)?;
    } else {
        Policy::load(&build, 1)?;
    }
    let is_adapters = |name: &str| adapter.is_some_and(|adapter| adapter.has(name));
    let heads = [SCORE_WEIGHT, SCORE_BIAS].into_iter().filter(|name| is_value && is_adapters(name));
    let of_base = checkpoint.names().filter(|name| !(is_value && *name == LM_HEAD || is_adapters(name)));
    of_base.chain(heads).map(|name| Merged::new(name, checkpoint, adapter)).collect()
}

/// A tensor of the base or of the head, with what the adapter adds to it; computed when it is asked for.
pub(super) struct Merged<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    format: ValueFormat,
    checkpoint: &'a Checkpoint,
    adapter: Option<&'a Adapter>,
}

impl<'a> Merged<'a> {
    fn new(name: &'a str, checkpoint: &'a Checkpoint, adapter: Option<&'a Adapter>) -> Result<Self> {
        let (shape, format) = match adapter.filter(|adapter| adapter.has(name)) {
            Some(adapter) => {
                let (shape, values) = adapter.tensor(name)?;
                (shape, values.format())
            }
            None => checkpoint.shape_and_format(name)?,
        };
        Ok(Self { name, shape, format, checkpoint, adapter })
    }

    /// To be written as `dtype`, or as the base is stored.
    fn stored_as(&self, dtype: Option<Dtype>) -> StoredMerged<'_> {
        StoredMerged { merged: self, dtype: dtype.unwrap_or(self.format.plain()) }
    }

    /// The adapter's tensor of this name, such as a head's, else the base's.
    fn stored(&self) -> Result<(&'a [usize], Values<'a>)> {
        match self.adapter.filter(|adapter| adapter.has(self.name)) {
            Some(adapter) => adapter.tensor(self.name),
            None => self.checkpoint.tensor(self.name),
        }
    }

    /// What the adapter adds to the tensor, where it is the weight of a linear layer that has adapters.
    fn delta(&self) -> Result<Option<Vec<f64>>> {
        match (self.adapter, self.name.strip_suffix(".weight"), self.shape) {
            (Some(adapter), Some(layer), &[outputs, inputs]) => adapter.delta(layer, [outputs, inputs]),
            _ => Ok(None),
        }
    }

    /// All values, with what is added.
    pub fn values(&self) -> Result<Vec<f64>> {
        self.with(self.delta()?)
    }

    fn with(&self, delta: Option<Vec<f64>>) -> Result<Vec<f64>> {
        let (_, stored) = self.stored()?;
        let values = stored.range(0, self.shape.iter().product());
        Ok(match delta {
            Some(delta) => values.zip(delta).map(|(value, delta)| value + delta).collect(),
            None => values.collect(),
        })
    }
}

/// A merged tensor as safetensors stores it.
struct StoredMerged<'a> {
    merged: &'a Merged<'a>,
    dtype: Dtype,
}

impl Stored for StoredMerged<'_> {
    fn stored_dtype(&self) -> Dtype {
        self.dtype
    }

    fn stored_shape(&self) -> &[usize] {
        self.merged.shape
    }

    fn read_stored(&self) -> Result<Cow<'_, [u8]>> {
        Ok(match self.merged.delta()? {
            None if self.merged.format == ValueFormat::Plain(self.dtype) => self.merged.stored()?.1.into_bytes(),
            delta => encode(self.merged.with(delta)?.into_iter(), self.dtype).into(),
        })
    }
}
