//! Models and adapters as llama.cpp reads them: GGUF.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::adapter::{A_SUFFIX, Adapter, B_SUFFIX};
use super::checkpoint::Checkpoint;
use super::config::ModelConfig;
use super::merge::{Merged, merged};
use super::stored::NotFinite;
use super::values::encode;
use crate::data::{Text, Tokenizer, own_template};
use crate::device::pack_q8_0;
use crate::gguf::{
    Architecture, Around, BlockFormat, Change, Direction, Entries, NewTensor, NewVocabulary, ROPE_FACTORS, ValueFormat,
    write_gguf,
};
use crate::source::{Descriptions, place_of};

/// How a GGUF file stores matrices; vectors are F32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GgufType {
    /// Blocks of 32 signed bytes with a scale; f16 where a row is not whole blocks.
    #[serde(rename = "q8_0")]
    #[value(name = "q8_0")]
    Q8_0,
    F16,
    Bf16,
    F32,
}

impl GgufType {
    /// The format of a tensor of this shape.
    fn of(self, shape: &[usize]) -> ValueFormat {
        let &[_, cols] = shape else { return ValueFormat::Plain(Dtype::F32) };
        match self {
            Self::Q8_0 if cols.is_multiple_of(BlockFormat::Q8_0.values()) => ValueFormat::Blocks(BlockFormat::Q8_0),
            Self::Q8_0 | Self::F16 => ValueFormat::Plain(Dtype::F16),
            Self::Bf16 => ValueFormat::Plain(Dtype::BF16),
            Self::F32 => ValueFormat::Plain(Dtype::F32),
        }
    }

    /// As llama.cpp numbers what most tensors are.
    fn file_type(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Bf16 => 32,
        }
    }
}

/// Writes the policy in `source`, with what `adapter` adds to it, as a GGUF file.
///
/// # Errors
/// Where adapter and model do not fit, where GGUF has no words for the model or its tokenizer, or names the file that cannot be
/// read or written.
pub fn export_model(source: &Path, adapter: Option<&Adapter>, gguf_type: GgufType, output: &Path) -> Result<()> {
    if let Some(adapter) = adapter {
        adapter.need_policy()?;
    }
    let config = ModelConfig::read(source)?;
    let in_config = || place_of(source, "config.json");
    let architecture = config.llama_cpp_architecture().with_context(in_config)?;
    let mut entries = begin(architecture, "model", source);
    entries.size("general.file_type", gguf_type.file_type());
    entries.size("general.quantization_version", 2);
    config.describe(architecture, &mut entries).with_context(in_config)?;
    describe_vocabulary(source, &config, &mut entries)?;

    let checkpoint = Checkpoint::open(source)?;
    let merged = merged(&config, &checkpoint, adapter)?;
    let kept = merged.iter().filter(|tensor| !config.leaves_out(tensor.name));
    let of_model = kept.map(|tensor| of_model(tensor, architecture, config.heads.head_dim, gguf_type));
    let mut tensors = of_model.collect::<Result<Vec<_>>>()?;
    tensors
        .extend(config.rope_factors().map(|factors| f32_tensor(ROPE_FACTORS.to_owned(), vec![factors.len()], factors)));
    write_gguf(output, &entries, &tensors)
}

/// Writes a policy's adapters over the model in `source` as a GGUF file, which llama.cpp applies with `--lora`.
///
/// # Errors
/// As [`export_model`].
pub fn export_adapter(source: &Path, adapter: &Adapter, output: &Path) -> Result<()> {
    adapter.need_policy()?;
    let config = ModelConfig::read(source)?;
    let architecture = config.llama_cpp_architecture().with_context(|| place_of(source, "config.json"))?;
    let mut entries = begin(architecture, "adapter", source);
    entries.text("adapter.type", "lora");
    // llama.cpp divides it by the rank.
    entries.number("adapter.lora.alpha", adapter.config.scaling() * adapter.config.r as f64);
    let checkpoint = Checkpoint::open(source)?;
    // For the check that the two fit.
    let merged = merged(&config, &checkpoint, Some(adapter))?;
    let mut tensors = Vec::new();
    for tensor in merged {
        let layer = tensor.name.strip_suffix(".weight").filter(|layer| adapter.config.targets(layer));
        let Some(layer) = layer else { continue };
        let theirs = architecture.llama_cpp_name(tensor.name);
        let theirs = theirs.with_context(|| format!("{} has no name in GGUF files", tensor.name))?;
        for (suffix, letter) in [(A_SUFFIX, "a"), (B_SUFFIX, "b")] {
            let name = format!("{layer}{suffix}");
            let (shape, values) = adapter.tensor(&name)?;
            let count = shape.iter().product();
            let values: Vec<f32> = values.range(0, count).map(|value| value as f32).collect();
            let is_turned = letter == "b" && architecture.change(tensor.name) == Some(Change::HeadRows);
            let values = if is_turned { turned(&values, shape[1], config.heads.head_dim) } else { values };
            tensors.push(f32_tensor(format!("{theirs}.lora_{letter}"), shape.to_vec(), values));
        }
    }
    ensure!(!tensors.is_empty(), "the adapters are of no layer that the model has");
    write_gguf(output, &entries, &tensors)
}

fn begin(architecture: Architecture, kind: &str, source: &Path) -> Entries {
    let mut entries = Entries::default();
    entries.text("general.architecture", architecture.name);
    entries.text("general.type", kind);
    entries.text("general.name", &source.file_stem().unwrap_or_default().to_string_lossy());
    entries
}

fn f32_tensor<'a>(name: String, shape: Vec<usize>, values: Vec<f32>) -> NewTensor<'a> {
    let format = ValueFormat::Plain(Dtype::F32);
    let in_errors = name.clone();
    NewTensor { name, shape, format, read: Box::new(move || encoded(&values, format, &in_errors)) }
}

/// A tensor of the policy as llama.cpp has it.
fn of_model<'a>(
    merged: &'a Merged<'a>,
    architecture: Architecture,
    head_dim: usize,
    gguf_type: GgufType,
) -> Result<NewTensor<'a>> {
    let name = architecture.llama_cpp_name(merged.name);
    let name = name.with_context(|| format!("{} has no name in GGUF files", merged.name))?;
    let format = gguf_type.of(merged.shape);
    let read = move || {
        let mut values: Vec<f32> = merged.values()?.into_iter().map(|value| value as f32).collect();
        match architecture.change(merged.name) {
            Some(Change::OneMore) => values.iter_mut().for_each(|value| *value += Direction::ToGguf.addend()),
            Some(Change::HeadRows) => values = turned(&values, merged.shape.get(1).copied().unwrap_or(1), head_dim),
            None => {}
        }
        encoded(&values, format, merged.name)
    };
    Ok(NewTensor { name, shape: merged.shape.to_vec(), format, read: Box::new(read) })
}

/// Rows of heads as llama.cpp has them.
fn turned(values: &[f32], cols: usize, head_dim: usize) -> Vec<f32> {
    let bytes = Direction::ToGguf.reorder(bytemuck::cast_slice(values), cols * size_of::<f32>(), head_dim);
    bytemuck::pod_collect_to_vec(&bytes)
}

/// Values as a file has them; what is not finite there is refused.
fn encoded(values: &[f32], format: ValueFormat, name: &str) -> Result<Vec<u8>> {
    // The largest f16 is 65504.
    let is_held =
        |value: &f32| value.is_finite() && (format != ValueFormat::Plain(Dtype::F16) || value.abs() < 65520.0);
    if let Some(element) = values.iter().position(|value| !is_held(value)) {
        ensure!(!values[element].is_finite(), "element {element} is {}, which is too large for f16", values[element]);
        return Err(NotFinite { name: name.to_owned(), element }.into());
    }
    Ok(match format {
        ValueFormat::Plain(dtype) => encode(values.iter().map(|&value| value.into()), dtype),
        ValueFormat::Blocks(_) => pack_q8_0(values),
    })
}

/// Says what the model's tokenizer does, where it has one.
fn describe_vocabulary(source: &Path, config: &ModelConfig, entries: &mut Entries) -> Result<()> {
    let descriptions = Descriptions::open(source)?;
    let Some(said) = descriptions.description("tokenizer.json")? else {
        entries.no_vocabulary();
        return Ok(());
    };
    let tokenizer = Tokenizer::read(source, &config.eos_token_ids)?;
    let json = serde_json::from_str(&said.text).with_context(|| format!("{}: not JSON", said.place))?;
    let of_tokenizer = descriptions.object("tokenizer_config.json")?;
    let template = own_template(&descriptions, &of_tokenizer)?;
    let end_tokens = tokenizer.end_tokens();
    let new = NewVocabulary {
        tokenizer: &json,
        config: &of_tokenizer,
        size: config.vocab_size,
        around: around(&tokenizer)?,
        end_tokens: &end_tokens,
        chat_template: template.as_ref().map(|template| template.text.as_str()),
    };
    entries.vocabulary(&new).context(said.place)
}

/// What a tokenizer puts around a text: all that it makes of an empty one.
fn around(tokenizer: &Tokenizer) -> Result<Around> {
    let ids = tokenizer.prompt(&Text::Plain(String::new()))?;
    let ends = tokenizer.end_tokens();
    Ok(match ids[..] {
        [] => Around { bos: false, eos: false },
        [id] if ends.contains(&id) => Around { bos: false, eos: true },
        [_] => Around { bos: true, eos: false },
        [_, _] => Around { bos: true, eos: true },
        _ => bail!("the tokenizer puts {} tokens around a text, and GGUF files have words for two", ids.len()),
    })
}
