//! A model's `config.json`: what it says of the decoder, and the refusal, by name, of what the decoder does not do.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::family::{FAMILIES, Family, Gemma};
use super::fields::Fields;
use super::layer_kinds::Layers;
use crate::data::{ModelLimits, token_ids};
use crate::kernels::{Activation, Heads, MAX_HEAD_DIM};
use crate::source::Descriptions;

/// A decoder of the Llama family, as Hugging Face's configurations describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The architecture's name without its head: `Llama`, `Qwen2`, ...
    pub family: &'static str,
    /// The architecture's name of a value network.
    pub value_architecture: &'static str,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    /// `num_attention_heads`, `num_key_value_heads` and `head_dim`.
    pub heads: Heads,
    /// What scores are multiplied by: `1 / sqrt(query_pre_attn_scalar)`, which is the `head_dim` but for Gemma 3.
    pub attention_scale: f32,
    pub vocab_size: usize,
    /// The longest sequence that is computed as the model means it.
    pub context_length: usize,
    pub rms_norm_eps: f32,
    /// 1 where a norm's stored weight is its scale less 1 (Gemma), else 0.
    pub norm_offset: f32,
    /// What embeddings are multiplied by: `sqrt(hidden_size)` for Gemma, else 1.
    pub embedding_scale: f32,
    pub activation: Activation,
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// A bias on the output projection.
    pub output_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// RMSNorm on each query and key head (Qwen3, Gemma 3).
    pub qk_norm: bool,
    /// RMSNorm on what each block adds to the stream, too (Gemma 3).
    pub output_norms: bool,
    /// What the layers differ in.
    pub layers: Layers,
    pub tie_word_embeddings: bool,
    /// The end tokens that `config.json` names.
    pub eos_token_ids: Vec<u32>,
    /// The file, as read: written back with what changes.
    pub json: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `DIR/config.json`, or what a GGUF file says in its place.
    ///
    /// # Errors
    /// Names the file and the field that is missing, wrong or not supported.
    pub fn read(dir: &Path) -> Result<Self> {
        let said = Descriptions::open(dir)?.description("config.json")?;
        ensure!(
            said.is_some() || !dir.join("adapter_config.json").exists(),
            "{}: is an adapter, not a model; give the model that it belongs to, and this with --adapter",
            dir.display()
        );
        let missing = || format!("{}: there is no config.json; a model is a Hugging Face directory", dir.display());
        let said = said.with_context(missing)?;
        Self::of_json(said.object()?).context(said.place)
    }

    /// The configuration in a JSON object.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not supported.
    pub fn of_json(json: Map<String, Value>) -> Result<Self> {
        let fields = Fields(&json);
        let model_type: String = fields.required("model_type")?;
        let Some(family) = FAMILIES.iter().find(|family| family.model_type == model_type) else {
            let known: Vec<_> = FAMILIES.iter().map(|family| family.model_type).collect();
            bail!("model_type {model_type:?} is not supported; supported are {}", known.join(", "));
        };
        fields.refuse_unsupported()?;

        let hidden_size = fields.size("hidden_size")?;
        let num_heads = fields.size("num_attention_heads")?;
        let heads = Heads {
            heads: num_heads,
            kv_heads: fields.optional("num_key_value_heads")?.unwrap_or(num_heads),
            head_dim: fields.optional("head_dim")?.or(family.head_dim).unwrap_or(hidden_size / num_heads),
        };
        ensure!(
            heads.kv_heads > 0 && heads.heads.is_multiple_of(heads.kv_heads),
            "num_key_value_heads {} does not divide num_attention_heads {}",
            heads.kv_heads,
            heads.heads
        );
        let intermediate_size = fields.size("intermediate_size")?;
        for (name, size) in
            [("hidden_size", hidden_size), ("intermediate_size", intermediate_size), ("head_dim", heads.head_dim)]
        {
            ensure!(
                size > 0 && size.is_multiple_of(4),
                "{name} {size} is not supported: the kernels read four values at a time, so it must be a multiple of 4"
            );
        }
        ensure!(heads.head_dim <= MAX_HEAD_DIM, "head_dim {} is not supported: at most {MAX_HEAD_DIM}", heads.head_dim);
        let (num_hidden_layers, vocab_size) = (fields.size("num_hidden_layers")?, fields.size("vocab_size")?);
        ensure!(
            num_hidden_layers <= MAX_LAYERS,
            "num_hidden_layers {num_hidden_layers} is not supported: at most {MAX_LAYERS}"
        );
        check_parameters([hidden_size, intermediate_size, num_hidden_layers, vocab_size], heads)?;
        let rms_norm_eps: f32 = fields.optional("rms_norm_eps")?.unwrap_or(1e-6);
        ensure!((0.0..1.0).contains(&rms_norm_eps), "rms_norm_eps {rms_norm_eps} is not from 0 to 1");
        let attention_bias = fields.optional("attention_bias")?.unwrap_or(false);

        Ok(Self {
            family: family.name,
            value_architecture: family.value_architecture,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            heads,
            attention_scale: fields.attention_scale(family, heads)?,
            vocab_size,
            context_length: fields.optional("max_position_embeddings")?.unwrap_or(usize::MAX),
            rms_norm_eps,
            norm_offset: if family.gemma.is_some() { 1.0 } else { 0.0 },
            embedding_scale: if family.gemma.is_some() { (hidden_size as f32).sqrt() } else { 1.0 },
            activation: fields.activation(family)?,
            qkv_bias: family.qkv_bias || attention_bias,
            output_bias: attention_bias && !family.qkv_bias,
            mlp_bias: fields.optional("mlp_bias")?.unwrap_or(false),
            qk_norm: family.qk_norm,
            output_norms: family.gemma == Some(Gemma::Third),
            layers: Layers::of(&fields, family.sliding, family.rope_theta, num_hidden_layers)?,
            tie_word_embeddings: fields.optional("tie_word_embeddings")?.unwrap_or(family.tied),
            eos_token_ids: token_ids(&json, "eos_token_id")?,
            json,
        })
    }

    /// What rows must keep to.
    pub fn limits(&self) -> ModelLimits {
        ModelLimits { vocab_size: self.vocab_size, context_length: self.context_length }
    }

    /// Whether the head of the family's value networks has a bias.
    pub fn value_head_has_bias(&self) -> bool {
        self.value_architecture.ends_with("ForTokenClassification")
    }

    /// The first architecture that the file names.
    pub fn architecture(&self) -> Option<&str> {
        self.json.get("architectures")?.get(0)?.as_str()
    }

    /// Checks that the model that `option` names is a value network.
    ///
    /// # Errors
    /// Says what it is.
    pub fn need_value_network(&self, option: &str) -> Result<()> {
        let architecture = self.architecture().unwrap_or_default();
        ensure!(
            architecture == self.value_architecture,
            "{option}: architectures is {architecture:?}, and a value network is a {}",
            self.value_architecture
        );
        Ok(())
    }
}

/// The deepest model that is described; a plan of it takes no time.
const MAX_LAYERS: usize = 1024;

/// The most weights of a model: below it no size of a tensor overflows.
const MAX_PARAMETERS: u128 = 1 << 40;

/// Refuses sizes of which no model is made, before anything is made of them.
fn check_parameters(sizes: [usize; 4], heads: Heads) -> Result<()> {
    let [hidden, intermediate, layers, vocab] = sizes.map(|size| size as u128);
    let [heads, kv_heads, head_dim] = [heads.heads, heads.kv_heads, heads.head_dim].map(|size| size as u128);
    let columns = 2 * (heads + kv_heads) * head_dim + 3 * intermediate;
    // A product of three 64-bit sizes may exceed 128 bits.
    let parameters = hidden.saturating_mul(layers.saturating_mul(columns).saturating_add(vocab));
    ensure!(
        parameters <= MAX_PARAMETERS,
        "hidden_size {hidden}, intermediate_size {intermediate}, num_hidden_layers {layers}, num_attention_heads {heads} and \
         vocab_size {vocab} are not supported: together they make more than 2^40 weights"
    );
    Ok(())
}

impl Fields<'_> {
    fn refuse_unsupported(&self) -> Result<()> {
        for name in ["quantization_config", "final_logit_softcapping", "attn_logit_softcapping"] {
            if let Some(value) = self.optional::<Value>(name)? {
                bail!("{name} {value} is not supported; use a model without it");
            }
        }
        if self.optional("use_bidirectional_attention")? == Some(true) {
            bail!("use_bidirectional_attention is not supported");
        }
        let partial: f64 = self.optional("partial_rotary_factor")?.unwrap_or(1.0);
        ensure!(partial == 1.0, "partial_rotary_factor {partial} is not supported; only 1 is");
        Ok(())
    }

    /// What scores are multiplied by.
    fn attention_scale(&self, family: &Family, heads: Heads) -> Result<f32> {
        if family.gemma != Some(Gemma::Third) {
            return Ok(heads.scale());
        }
        let scalar: f64 = self.optional("query_pre_attn_scalar")?.unwrap_or(256.0);
        ensure!(scalar > 0.0 && scalar.is_finite(), "query_pre_attn_scalar {scalar} is not a number above 0");
        Ok((1.0 / scalar.sqrt()) as f32)
    }

    fn activation(&self, family: &Family) -> Result<Activation> {
        let name: String = match self.optional("hidden_activation")? {
            Some(name) => name,
            None => self.required("hidden_act")?,
        };
        match name.as_str() {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            // Gemma's first configurations say "gelu" and mean the tanh form, as transformers reads them.
            "gelu" if family.gemma.is_some() => Ok(Activation::GeluTanh),
            other => bail!("hidden_act {other:?} is not supported; supported are \"silu\" and \"gelu_pytorch_tanh\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rope::Rope;
    use super::*;

    fn llama() -> Value {
        serde_json::json!({
            "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 100, "hidden_act": "silu", "rope_theta": 5000.0,
        })
    }

    fn parse(changes: Value) -> Result<ModelConfig> {
        let (Value::Object(mut json), Value::Object(changes)) = (llama(), changes) else { unreachable!() };
        json.extend(changes);
        ModelConfig::of_json(json)
    }

    fn refusal(changes: Value) -> String {
        format!("{:#}", parse(changes).unwrap_err())
    }

    #[test]
    fn transformers_4_and_5_say_the_same() {
        let scaling = serde_json::json!({
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        let old = parse(serde_json::json!({"rope_theta": 500000.0, "rope_scaling": scaling})).unwrap();
        let mut new = scaling.clone();
        new["rope_theta"] = 500000.0.into();
        let new = parse(serde_json::json!({"rope_theta": null, "rope_parameters": new})).unwrap();
        assert_eq!(old.layers, new.layers);
        assert_eq!(old.layers.ropes[0].theta, 500000.0);
        assert!(old.layers.ropes[0].scaling.is_some());
        let plain = parse(serde_json::json!({})).unwrap();
        assert_eq!(plain.layers.ropes, [Rope { theta: 5000.0, scaling: None }]);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            (
                serde_json::json!({"model_type": "mamba"}),
                "model_type \"mamba\" is not supported; supported are llama, mistral, qwen2, qwen3, smollm3, gemma, \
                 gemma3_text",
            ),
            (
                serde_json::json!({"final_logit_softcapping": 30.0}),
                "final_logit_softcapping 30.0 is not supported; use a model without it",
            ),
            (
                serde_json::json!({"quantization_config": {"bits": 4}}),
                "quantization_config {\"bits\":4} is not supported; use a model without it",
            ),
            (
                serde_json::json!({"rope_scaling": {"type": "longrope", "factor": 2.0}}),
                "rope_type \"longrope\" is not supported; supported are \"default\", \"linear\", \"llama3\" and \"yarn\"",
            ),
            (
                serde_json::json!({"layer_types": ["full_attention", "sliding_attention"]}),
                "layer_types contains \"sliding_attention\", and no sliding_window is in use",
            ),
            (
                serde_json::json!({"hidden_act": "gelu"}),
                "hidden_act \"gelu\" is not supported; supported are \"silu\" and \"gelu_pytorch_tanh\"",
            ),
            (
                serde_json::json!({"head_dim": 6}),
                "head_dim 6 is not supported: the kernels read four values at a time, so it must be a multiple of 4",
            ),
            (serde_json::json!({"head_dim": 512}), "head_dim 512 is not supported: at most 256"),
            (
                serde_json::json!({"num_key_value_heads": 3}),
                "num_key_value_heads 3 does not divide num_attention_heads 4",
            ),
            (
                serde_json::json!({"partial_rotary_factor": 0.5}),
                "partial_rotary_factor 0.5 is not supported; only 1 is",
            ),
            (serde_json::json!({"use_bidirectional_attention": true}), "use_bidirectional_attention is not supported"),
            (
                serde_json::json!({"rope_scaling": {"factor": 2.0}}),
                "rope_scaling has factor 2.0 and no rope_type, so that it is not known what it means",
            ),
            (
                serde_json::json!({"rope_scaling": {"type": "linear", "rope_type": "default"}}),
                "rope_scaling has rope_type \"default\" and type \"linear\"; leave out the one that is not the model's",
            ),
            (
                serde_json::json!({"rope_parameters": {"rope_theta": 1.0}, "rope_scaling": {"type": "linear"}}),
                "rope_scaling and rope_parameters are both there; leave out the one that is not the model's",
            ),
            (
                serde_json::json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
                "partial_rotary_factor 0.5 is not supported; only 1 is",
            ),
            (serde_json::json!({"rope_theta": 0}), "rope_theta 0 is not a number above 0"),
            (serde_json::json!({"rms_norm_eps": -1e-6}), "rms_norm_eps -0.000001 is not from 0 to 1"),
            (
                serde_json::json!({"num_hidden_layers": 1_000_000}),
                "num_hidden_layers 1000000 is not supported: at most 1024",
            ),
            (serde_json::json!({"hidden_size": null}), "hidden_size is missing"),
            (
                serde_json::json!({"hidden_size": "big"}),
                "hidden_size \"big\" is not what this field holds: invalid type: string \"big\", expected usize",
            ),
        ];
        for (changes, expected) in cases {
            assert_eq!(refusal(changes), expected);
        }
    }

    #[test]
    fn llama3_scaling_that_cannot_be_is_refused() {
        let refusal = |name: &str, value: Value| {
            let mut scaling = serde_json::json!({
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            });
            scaling[name] = value;
            refusal(serde_json::json!({"rope_scaling": scaling}))
        };
        for (name, values) in [
            ("factor", [0.0, -8.0, 0.5]),
            ("low_freq_factor", [0.0, 4.0, 5.0]),
            ("high_freq_factor", [1.0, 0.0, -4.0]),
            ("original_max_position_embeddings", [0.0, -1.0, 0.5]),
        ] {
            for value in values {
                assert!(refusal(name, value.into()).contains(&format!("{name} {value}")), "{name} {value}");
            }
        }
    }

    /// Each size and each two of them, as far as they go: an answer at once, whatever is computed of them.
    #[test]
    fn sizes_that_no_model_has_are_refused() {
        let names = [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "vocab_size",
        ];
        for (first, second) in names.iter().flat_map(|first| names.iter().map(move |second| (first, second))) {
            for size in [1u64 << 40, 1 << 62, 1 << 63, u64::MAX, u64::MAX - 3] {
                refusal(serde_json::json!({*first: size, *second: size, "num_key_value_heads": size}));
                refusal(serde_json::json!({*first: size, *second: size}));
            }
        }
        let most = serde_json::json!({
            "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128,
            "num_key_value_heads": 8, "vocab_size": 128_256,
        });
        assert!(parse(most).is_ok());
    }

    #[test]
    fn gemma_is_a_decoder_with_its_own_scales() {
        let gemma = parse(serde_json::json!({"model_type": "gemma", "hidden_act": "gelu"})).unwrap();
        assert_eq!((gemma.norm_offset, gemma.embedding_scale), (1.0, 32f32.sqrt()));
        assert!(gemma.tie_word_embeddings);
        assert_eq!(gemma.activation, Activation::GeluTanh);
        let third = serde_json::json!({"model_type": "gemma3_text", "query_pre_attn_scalar": 16, "hidden_act": "gelu"});
        let third = parse(third).unwrap();
        assert_eq!((third.attention_scale, third.heads.head_dim), (0.25, 256));
        assert!(third.output_norms && third.qk_norm);
    }

    #[test]
    fn end_tokens_may_be_one_or_several() {
        assert_eq!(parse(serde_json::json!({"eos_token_id": 2})).unwrap().eos_token_ids, [2]);
        assert_eq!(parse(serde_json::json!({"eos_token_id": [2, 7]})).unwrap().eos_token_ids, [2, 7]);
        assert_eq!(refusal(serde_json::json!({"eos_token_id": -1})), "eos_token_id -1 is not a token id");
    }
}
