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
    // What a network of the two reads is checked by building one that holds nothing.
    let device = Device::plan(&Device::cpu(Precision::F32));
    let storage = Storage { dtype: DType::Real, trainable: false };
    let build = Build::new(&device, &config, Some(&checkpoint), "merged", storage).with_adapter(Some(adapter));
    let is_value = adapter.is_value_network();
    if is_value {
        Value::load(&build, 1)?;
    } else {
        Policy::load(&build, 1)?;
    }
    let heads: &[&str] = if is_value { &[SCORE_WEIGHT, SCORE_BIAS] } else { &[] };
    let heads = heads.iter().filter(|name| adapter.has(name)).copied();
    let of_base = checkpoint.names().filter(|name| !(is_value && *name == LM_HEAD || adapter.has(name)));
    let merged = of_base.chain(heads).map(|name| Merged::new(name, &checkpoint, adapter, dtype));
    let merged = merged.collect::<Result<Vec<_>>>()?;
    let matrix = merged.iter().find(|tensor| tensor.shape.len() > 1);
    let stored = matrix.map_or(Dtype::F32, |matrix| matrix.dtype);
    let tensors = merged.iter().map(|tensor| (tensor.name.to_owned(), tensor as &dyn Stored));
    write_safetensors(&dir.join("model.safetensors"), tensors, Some(pytorch()))?;
    let changes = if is_value { value_changes(&config) } else { policy_changes(&config) };
    describe(&config, changes, stored, source, dir)
}

/// A tensor of the base or of the head, with what the adapter adds to it; computed when it is written.
struct Merged<'a> {
    name: &'a str,
    shape: Vec<usize>,
    dtype: Dtype,
    checkpoint: &'a Checkpoint,
    adapter: &'a Adapter,
}

impl<'a> Merged<'a> {
    fn new(name: &'a str, checkpoint: &'a Checkpoint, adapter: &'a Adapter, dtype: Option<Dtype>) -> Result<Self> {
        let (shape, values) = tensor(name, checkpoint, adapter)?;
        let (shape, dtype) = (shape.to_vec(), dtype.unwrap_or(values.format().plain()));
        Ok(Self { name, shape, dtype, checkpoint, adapter })
    }

    /// What the adapter adds to the tensor, where it is the weight of a linear layer that has adapters.
    fn delta(&self) -> Result<Option<Vec<f64>>> {
        match (self.name.strip_suffix(".weight"), &self.shape[..]) {
            (Some(layer), &[outputs, inputs]) => self.adapter.delta(layer, [outputs, inputs]),
            _ => Ok(None),
        }
    }
}

impl Stored for Merged<'_> {
    fn stored_dtype(&self) -> Dtype {
        self.dtype
    }

    fn stored_shape(&self) -> &[usize] {
        &self.shape
    }

    fn read_stored(&self) -> Result<Cow<'_, [u8]>> {
        let (_, stored) = tensor(self.name, self.checkpoint, self.adapter)?;
        let values = stored.range(0, self.shape.iter().product());
        Ok(match self.delta()? {
            Some(delta) => encode(values.zip(delta).map(|(value, delta)| value + delta), self.dtype).into(),
            None if stored.format() == ValueFormat::Plain(self.dtype) => {
                drop(values);
                stored.into_bytes()
            }
            None => encode(values, self.dtype).into(),
        })
    }
}

/// The adapter's tensor of this name, such as a head's, else the base's.
fn tensor<'a>(name: &str, checkpoint: &'a Checkpoint, adapter: &'a Adapter) -> Result<(&'a [usize], Values<'a>)> {
    if adapter.has(name) { adapter.tensor(name) } else { checkpoint.tensor(name) }
}
