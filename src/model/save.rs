//! Writing models as `transformers` reads them.

use std::path::Path;

use anyhow::{Context, Result};
use safetensors::Dtype;
use serde_json::{Map, Value as Json, json};

use super::config::ModelConfig;
use super::network::{Policy, Value};
use super::parameter::Parameter;
use super::stored::{Stored, write_weights};
use crate::source::Descriptions;

/// Writes a policy as a `*ForCausalLM` directory, with the tokenizer of `source`; weights as `dtype`, or as they are held.
///
/// # Errors
/// Names the file that cannot be written, or the device's fault.
pub fn save_policy(
    policy: &mut Policy,
    config: &ModelConfig,
    dtype: Option<Dtype>,
    source: &Path,
    dir: &Path,
) -> Result<()> {
    save(policy.parameters_mut(), config, dtype, policy_changes(config), source, dir)
}

/// What `config.json` says of a policy.
pub(super) fn policy_changes(config: &ModelConfig) -> Json {
    json!({ "architectures": [format!("{}ForCausalLM", config.family)] })
}

/// Writes a value network as a `*ForTokenClassification` directory with one label, with the tokenizer of `source`; weights
/// as `dtype`, or as they are held.
///
/// # Errors
/// Names the file that cannot be written, or the device's fault.
pub fn save_value(
    value: &mut Value,
    config: &ModelConfig,
    dtype: Option<Dtype>,
    source: &Path,
    dir: &Path,
) -> Result<()> {
    save(value.parameters_mut(), config, dtype, value_changes(config), source, dir)
}

/// What `config.json` says of a value network.
pub(super) fn value_changes(config: &ModelConfig) -> Json {
    json!({
        "architectures": [config.value_architecture],
        "id2label": { "0": "value" },
        "label2id": { "value": 0 },
        "num_labels": 1,
    })
}

fn save<'a>(
    parameters: impl Iterator<Item = &'a mut Parameter>,
    config: &ModelConfig,
    dtype: Option<Dtype>,
    changes: Json,
    source: &Path,
    dir: &Path,
) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    let parameters: Vec<&Parameter> = parameters.map(|parameter| &*parameter).collect();
    // The matrices' type is the model's: norms and biases may be wider.
    let matrix = parameters.iter().find(|parameter| parameter.rows() > 1);
    let of_matrices = dtype.or(matrix.map(|matrix| matrix.stored_dtype())).unwrap_or(Dtype::F32);
    write_weights(&dir.join("model.safetensors"), &parameters, "", dtype)?;
    describe(config, changes, of_matrices, source, dir)
}

/// Writes what a model directory has beside the weights: the configuration with these changes, and what `source` has for
/// the tokenizer and generation.
pub(super) fn describe(config: &ModelConfig, changes: Json, dtype: Dtype, source: &Path, dir: &Path) -> Result<()> {
    let mut json = config.json.clone();
    if let Json::Object(changes) = changes {
        json.extend(changes);
    }
    set_dtype(&mut json, dtype);
    let path = dir.join("config.json");
    let text = serde_json::to_string_pretty(&json)?;
    std::fs::write(&path, text + "\n").with_context(|| format!("{}: cannot be written", path.display()))?;
    Descriptions::open(source)?.copy_companions(dir)
}

/// Says the weights' type under the name that the file uses: `dtype` (transformers 5) or `torch_dtype` (4).
fn set_dtype(json: &mut Map<String, Json>, dtype: Dtype) {
    let name = match dtype {
        Dtype::BF16 => "bfloat16",
        Dtype::F64 => "float64",
        Dtype::F16 => "float16",
        _ => "float32",
    };
    let key = if json.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    json.insert(key.to_owned(), name.into());
}
