//! Adapters in PEFT's format: what `adapter_config.json` says, the refusal, by name, of what is not computed, and the weights.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::checkpoint::Checkpoint;
use super::parameter::Parameter;
use super::stored::write_weights;
use super::task_type::TaskType;
use super::values::Values;
use crate::files::read_description;

/// The linear layers of a decoder layer, by PEFT's names.
pub const LINEAR_LAYERS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// How adapters are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// The rank.
    pub r: usize,
    pub alpha: f64,
    /// The share of an adapter's input values that a training step leaves out.
    pub dropout: f64,
    /// s = alpha / sqrt(r) in place of alpha / r (rsLoRA).
    pub use_rslora: bool,
    /// Names of linear layers, whole or what stands after a dot of them.
    pub target_modules: Vec<String>,
}

/// Adapters of a network.
pub struct Adapter {
    pub config: LoraConfig,
    weights: Weights,
}

enum Weights {
    /// A is random and B zero: the network is the base.
    New {
        seed: u64,
    },
    Stored {
        task_type: Option<TaskType>,
        file: Checkpoint,
    },
}

const CONFIG: &str = "adapter_config.json";

/// Whether a directory has adapters, not a model.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(CONFIG).is_file()
}

const WEIGHTS: &str = "adapter_model.safetensors";
/// Before the name that a tensor has in the base.
const PREFIX: &str = "base_model.model.";
/// Weights that PEFT stores beside adapters where a vocabulary was resized.
const WHOLE_WEIGHTS: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

impl LoraConfig {
    /// The factor of what the adapters add: s.
    pub fn scaling(&self) -> f64 {
        let r = self.r as f64;
        self.alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Whether the linear layer of this name, such as `model.layers.0.mlp.up_proj`, has adapters.
    pub fn targets(&self, layer: &str) -> bool {
        let is_end =
            |end: &String| layer.strip_suffix(end.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        self.target_modules.iter().any(is_end)
    }

    fn of_json(json: &Map<String, Value>) -> Result<Self> {
        refuse_unsupported(json)?;
        let number = |name: &str| {
            let value = json.get(name).with_context(|| format!("{name} is missing"))?;
            let number = value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
            number.with_context(|| format!("{name} {value} is not a number above 0"))
        };
        let r = number("r")?;
        let dropout = json.get("lora_dropout").and_then(Value::as_f64).unwrap_or(0.0);
        ensure!((0.0..1.0).contains(&dropout), "lora_dropout {dropout} is not from 0 to below 1");
        ensure!(r.fract() == 0.0, "r {r} is not a whole number");
        ensure!(r <= MAX_RANK as f64, "r {r} is not supported; at most {MAX_RANK} is");
        Ok(Self {
            r: r as usize,
            alpha: number("lora_alpha")?,
            dropout,
            use_rslora: json.get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
            target_modules: target_modules(json.get("target_modules").unwrap_or(&Value::Null))?,
        })
    }

    fn to_json(&self, task_type: TaskType, base: &str) -> Value {
        // PEFT writes whole numbers as such.
        let alpha = if self.alpha.fract() == 0.0 { json!(self.alpha as i64) } else { json!(self.alpha) };
        json!({
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": alpha,
            "lora_dropout": self.dropout,
            "modules_to_save": task_type.is_value_network().then_some(["score"]),
            "peft_type": "LORA",
            "r": self.r,
            "target_modules": self.target_modules,
            "task_type": task_type.name(),
            "use_dora": false,
            "use_rslora": self.use_rslora,
        })
    }
}

/// The highest rank: that of the widest layer of any model.
const MAX_RANK: usize = 1 << 20;

/// The type of a field's value, beside null.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    BoolOrText,
    Number,
    Text,
    /// Read where it is used, with its own message.
    Checked,
    Any,
}

/// Fields that are read, or that change nothing in what stored adapters compute. Every other field must be absent or off.
const UNDERSTOOD: [(&str, Kind); 20] = [
    ("auto_mapping", Kind::Any),
    ("base_model_name_or_path", Kind::Text),
    ("bias", Kind::Text),
    ("eva_config", Kind::Any),
    ("inference_mode", Kind::Bool),
    ("init_lora_weights", Kind::BoolOrText),
    ("loftq_config", Kind::Any),
    ("lora_alpha", Kind::Checked),
    ("lora_dropout", Kind::Number),
    ("megatron_core", Kind::Any),
    ("modules_to_save", Kind::Checked),
    ("peft_type", Kind::Text),
    ("peft_version", Kind::Text),
    ("qalora_group_size", Kind::Number),
    ("r", Kind::Checked),
    ("revision", Kind::Text),
    ("runtime_config", Kind::Any),
    ("target_modules", Kind::Checked),
    ("task_type", Kind::Text),
    ("use_rslora", Kind::Bool),
];

impl Kind {
    /// What a value must be, where this one is not.
    fn violated_by(self, value: &Value) -> Option<&'static str> {
        let (is_right, wanted) = match self {
            Self::Bool => (value.is_boolean(), "true or false"),
            Self::BoolOrText => (value.is_boolean() || value.is_string(), "true, false or text"),
            Self::Number => (value.is_number(), "a number"),
            Self::Text => (value.is_string(), "text"),
            Self::Checked | Self::Any => (true, ""),
        };
        (!is_right && !value.is_null()).then_some(wanted)
    }
}

fn refuse_unsupported(json: &Map<String, Value>) -> Result<()> {
    for (name, kind) in UNDERSTOOD {
        let value = json.get(name).unwrap_or(&Value::Null);
        if let Some(wanted) = kind.violated_by(value) {
            bail!("{name} {value} is not {wanted}");
        }
    }
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let peft_type = json.get("peft_type").unwrap_or(&Value::Null);
    ensure!(peft_type == "LORA", "peft_type {peft_type} is not supported; only \"LORA\" is");
    if let Some(bias) = text("bias").filter(|bias| *bias != "none") {
        bail!("bias {bias:?} is not supported; only \"none\" is");
    }
    // The other ways to begin change the base's own weights.
    if let Some(init) = text("init_lora_weights").filter(|init| !["gaussian", "orthogonal", "eva"].contains(init)) {
        bail!(
            "init_lora_weights {init:?} is not supported: such adapters belong to another base than the model's weights"
        );
    }
    let modules = match json.get("modules_to_save") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(modules)) => modules,
        Some(other) => bail!("modules_to_save {other} is not a list of names"),
    };
    for module in modules {
        // PEFT names both heads that a token classifier may have.
        ensure!(
            module == "score" || module == "classifier",
            "modules_to_save contains {module}, which is not supported; only a value network's \"score\" is"
        );
    }
    let is_set = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    let is_understood = |name: &str| UNDERSTOOD.iter().any(|(known, _)| *known == name);
    if let Some((name, value)) = json.iter().find(|(name, value)| !is_understood(name) && is_set(value)) {
        bail!("{name} {value} is not supported; use adapters without it");
    }
    Ok(())
}

fn target_modules(value: &Value) -> Result<Vec<String>> {
    let known = LINEAR_LAYERS.join(", ");
    let names = match value {
        Value::String(all) if all == "all-linear" => return Ok(LINEAR_LAYERS.map(str::to_owned).into()),
        Value::String(pattern) => {
            bail!("target_modules {pattern:?} is a pattern, which is not supported; give a list of names")
        }
        Value::Array(names) => names,
        other => bail!("target_modules {other} is not a list of names"),
    };
    ensure!(!names.is_empty(), "target_modules is empty");
    let name = |value: &Value| {
        let name = value.as_str().unwrap_or_default();
        let last = name.rsplit('.').next().unwrap_or_default();
        ensure!(
            LINEAR_LAYERS.contains(&last),
            "target_modules contains {value}, which is not supported; supported are {known}"
        );
        Ok(name.to_owned())
    };
    names.iter().map(name).collect()
}

impl Adapter {
    /// New adapters, which change nothing yet.
    pub fn new(config: LoraConfig, seed: u64) -> Self {
        Self { config, weights: Weights::New { seed } }
    }

    /// Opens an adapter directory.
    ///
    /// # Errors
    /// Names the file and the field that is missing, wrong or not supported.
    pub fn open(dir: &Path) -> Result<Self> {
        let (path, weights) = (dir.join(CONFIG), dir.join(WEIGHTS));
        ensure!(dir.is_dir(), "{}: there is no such adapter directory", dir.display());
        ensure!(
            path.exists() || !dir.join("config.json").exists(),
            "{}: is a model, not an adapter; give it with --model",
            dir.display()
        );
        ensure!(path.exists(), "{}: has no {CONFIG}; an adapter is a PEFT directory", dir.display());
        let text = read_description(&path)?;
        let json: Map<String, Value> =
            serde_json::from_str(&text).with_context(|| format!("{}: not a JSON object", path.display()))?;
        let config = LoraConfig::of_json(&json).with_context(|| path.display().to_string())?;
        let task_type = json.get("task_type").and_then(Value::as_str).map(TaskType::of_name).transpose();
        let task_type = task_type.with_context(|| path.display().to_string())?;
        ensure!(weights.exists(), "{}: there is no {WEIGHTS}; other weight formats are not supported", dir.display());
        Ok(Self { config, weights: Weights::Stored { task_type, file: Checkpoint::open_file(&weights)? } })
    }

    /// Whether the adapters come from a file: new ones change nothing.
    pub fn is_stored(&self) -> bool {
        matches!(self.weights, Weights::Stored { .. })
    }

    /// Whether they are a value network's.
    pub fn is_value_network(&self) -> bool {
        self.task_type().is_some_and(TaskType::is_value_network)
    }

    fn task_type(&self) -> Option<TaskType> {
        match self.weights {
            Weights::Stored { task_type, .. } => task_type,
            Weights::New { .. } => None,
        }
    }

    /// Checks that the adapters are not a value network's.
    pub(super) fn need_policy(&self) -> Result<()> {
        if let Some(name) = self.task_type().filter(|task_type| task_type.is_value_network()).map(TaskType::name) {
            bail!("{}: is a value network's: its task_type is {name}", self.path().display());
        }
        Ok(())
    }

    /// Checks that the adapters that `option` names are a value network's.
    ///
    /// # Errors
    /// Where they are not.
    pub fn need_value_network(&self, option: &str) -> Result<()> {
        ensure!(
            self.is_value_network(),
            "{option}: its task_type is not TOKEN_CLS (or SEQ_CLS), which a value network's adapter has"
        );
        Ok(())
    }

    /// What tells adapters apart: how they are applied, and every byte of them.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.config.to_json(TaskType::CausalLm, "").to_string());
        match &self.weights {
            Weights::New { seed } => hash.update(seed.to_le_bytes()),
            Weights::Stored { file, .. } => hash.update(file.digest()),
        }
        hash.finalize().into()
    }

    /// Whether a tensor that the base has is stored with the adapters: a value network's head.
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.weights {
            Weights::New { .. } => false,
            Weights::Stored { file, .. } => file.contains(&format!("{PREFIX}{name}")),
        }
    }

    /// The stored values of a tensor of an adapter, or of one that is stored with them, in the shape that this base makes it;
    /// asked for before there is room for them. `None` of new adapters.
    pub(super) fn shaped(&self, name: &str, expected: &[usize]) -> Result<Option<Values<'_>>> {
        let Weights::Stored { file, .. } = &self.weights else { return Ok(None) };
        let name = format!("{PREFIX}{name}");
        let other_base = "the adapter was made for another base";
        let (shape, values) = file.tensor(&name).with_context(|| {
            format!("{}: adapter_config.json and this base say that it has it; {other_base}", self.path().display())
        })?;
        ensure!(
            shape == expected,
            "{}: {name} has the shape {shape:?}, and adapter_config.json and this base make it {expected:?}; {other_base}",
            self.path().display()
        );
        Ok(Some(values))
    }

    /// Fills a matrix of a new adapter; `model` is the network that it belongs to.
    pub(super) fn initialize(&self, parameter: &mut Parameter, model: &str) -> Result<()> {
        match self.weights {
            Weights::New { seed } if !parameter.name().ends_with(B_SUFFIX) => initialize(parameter, seed, model),
            _ => Ok(()),
        }
    }

    /// Refuses a file that has more than `read`, the names that the network has read of it: what it means would be left out.
    pub(super) fn refuse_unread(&self, read: &BTreeSet<String>) -> Result<()> {
        let Weights::Stored { file, .. } = &self.weights else { return Ok(()) };
        for name in file.names() {
            match name.strip_prefix(PREFIX) {
                Some(of_base) if read.contains(of_base) => {}
                Some(of_base) if WHOLE_WEIGHTS.contains(&of_base) => bail!(
                    "{}: has {name}, a weight of the base that is stored whole, which is not supported; merge the adapter \
                     with PEFT, or save it with save_embedding_layers=False where the weight is the base's",
                    self.path().display()
                ),
                _ => bail!(
                    "{}: {name} belongs to nothing that this base has an adapter for; the adapter was made for another base",
                    self.path().display()
                ),
            }
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        match &self.weights {
            Weights::New { .. } => PathBuf::new(),
            Weights::Stored { file, .. } => file.path_of("").to_owned(),
        }
    }

    /// `s B A` of a linear layer, `[out, in]`, where it has adapters.
    ///
    /// # Errors
    /// Where a tensor is missing.
    pub(super) fn delta(&self, layer: &str, [outputs, inputs]: [usize; 2]) -> Result<Option<Vec<f64>>> {
        if !self.config.targets(layer) {
            return Ok(None);
        }
        let r = self.config.r;
        let values = |part: &str, count| -> Result<Vec<f64>> {
            Ok(self.tensor(&format!("{layer}{part}"))?.1.range(0, count).collect())
        };
        let (a, b) = (values(A_SUFFIX, r * inputs)?, values(B_SUFFIX, outputs * r)?);
        let scaling = self.config.scaling();
        let row = |row: &[f64]| {
            let mut sums = vec![0.0; inputs];
            for (b, a) in row.iter().zip(a.chunks(inputs)) {
                sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += scaling * b * a);
            }
            sums
        };
        Ok(Some(b.par_chunks(r).flat_map_iter(row).collect()))
    }

    /// A tensor that is stored with the adapters: its shape and values.
    pub(super) fn tensor(&self, name: &str) -> Result<(&[usize], Values<'_>)> {
        let Weights::Stored { file, .. } = &self.weights else { bail!("new adapters have no {name}") };
        file.tensor(&format!("{PREFIX}{name}"))
    }
}

/// After a linear layer's name.
pub(super) const A_SUFFIX: &str = ".lora_A.weight";
pub(super) const B_SUFFIX: &str = ".lora_B.weight";

/// As PEFT begins: `kaiming_uniform_(a = sqrt(5))`, which is uniform within 1 / sqrt(in).
fn initialize(parameter: &mut Parameter, seed: u64, model: &str) -> Result<()> {
    let bound = 1.0 / (parameter.cols() as f64).sqrt();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let name = Sha256::digest(format!("{model}/{}", parameter.name()));
    rng.set_stream(name.iter().take(8).fold(0, |stream, byte| stream << 8 | u64::from(*byte)));
    let values: Vec<f64> = (0..parameter.len()).map(|_| f64::from(rng.random_range(-bound..bound) as f32)).collect();
    parameter.write_with(|first, count| values[first..first + count].iter().copied())
}

/// Writes what a network trains beside its base, as PEFT reads it; `base` is the base's name. Weights are stored as `dtype`,
/// or as they are held.
///
/// # Errors
/// Names the file that cannot be written, or the device's fault.
pub fn save_adapter<'a>(
    parameters: impl Iterator<Item = &'a mut Parameter>,
    config: &LoraConfig,
    task_type: TaskType,
    base: &str,
    dtype: Option<Dtype>,
    dir: &Path,
) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    let parameters: Vec<&Parameter> = parameters.map(|parameter| &*parameter).filter(|p| p.is_trained()).collect();
    write_weights(&dir.join(WEIGHTS), &parameters, PREFIX, dtype)?;
    let path = dir.join(CONFIG);
    let text = serde_json::to_string_pretty(&config.to_json(task_type, base))?;
    std::fs::write(&path, text + "\n").with_context(|| format!("{}: cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(target_modules: Value, use_rslora: bool) -> LoraConfig {
        let json = json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": use_rslora, "target_modules": target_modules,
        });
        LoraConfig::of_json(json.as_object().unwrap()).unwrap()
    }

    #[test]
    fn a_target_is_a_name_or_its_end_after_a_dot() {
        let whole = parse(json!(["model.layers.1.mlp.up_proj", "self_attn.q_proj"]), false);
        assert!(whole.targets("model.layers.1.mlp.up_proj") && whole.targets("model.layers.0.self_attn.q_proj"));
        assert!(!whole.targets("model.layers.11.mlp.up_proj") && !whole.targets("model.layers.0.mlp.up_proj"));
        assert!(parse(json!("all-linear"), false).targets("model.layers.7.self_attn.o_proj"));
    }

    #[test]
    fn the_scaling_is_over_r_or_its_root() {
        assert_eq!((parse(json!(["q_proj"]), false).scaling(), parse(json!(["q_proj"]), true).scaling()), (2.0, 4.0));
    }
}
