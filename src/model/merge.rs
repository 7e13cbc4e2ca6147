//! Adapters merged into their base: `W + s B A`, tensor by tensor, without the model in memory.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Result, ensure};
use half::f16;
use safetensors::Dtype;

use super::Build;
use super::adapter::Adapter;
use super::checkpoint::Checkpoint;
use super::config::ModelConfig;
use super::network::{LM_HEAD, Policy, SCORE_BIAS, SCORE_WEIGHT, Value};
use super::parameter::Storage;
use super::save::{describe, policy_changes, value_changes};
use super::stored::{Stored, write_safetensors};
use crate::device::{DType, Device, Precision, to_bf16};

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
    std::fs::create_dir_all(dir)?;
    let tensors = merged.iter().map(|tensor| (tensor.name.to_owned(), tensor as &dyn Stored));
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    write_safetensors(&dir.join("model.safetensors"), tensors, Some(metadata))?;
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
        let (shape, values) = if adapter.has(name) { adapter.tensor(name)? } else { checkpoint.tensor(name)? };
        let (shape, dtype) = (shape.to_vec(), dtype.unwrap_or(values.dtype()));
        Ok(Self { name, shape, dtype, checkpoint, adapter })
    }

    fn values(&self) -> Result<Vec<f64>> {
        let count = self.shape.iter().product();
        if self.adapter.has(self.name) {
            return Ok(self.adapter.tensor(self.name)?.1.range(0, count).collect());
        }
        let mut values: Vec<f64> = self.checkpoint.tensor(self.name)?.1.range(0, count).collect();
        if let Some(layer) = self.name.strip_suffix(".weight")
            && let [outputs, inputs] = self.shape[..]
            && let Some(delta) = self.adapter.delta(layer, [outputs, inputs])?
        {
            values.iter_mut().zip(delta).for_each(|(value, delta)| *value += delta);
        }
        ensure!(values.iter().all(|value| value.is_finite()), "{}: a merged weight is not finite", self.name);
        Ok(values)
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
        let values = self.values()?.into_iter();
        let bytes: Vec<u8> = match self.dtype {
            Dtype::F64 => values.flat_map(f64::to_le_bytes).collect(),
            Dtype::BF16 => values.flat_map(|value| to_bf16(value).to_le_bytes()).collect(),
            Dtype::F16 => values.flat_map(|value| f16::from_f32(value as f32).to_le_bytes()).collect(),
            _ => values.flat_map(|value| (value as f32).to_le_bytes()).collect(),
        };
        Ok(bytes.into())
    }
}
