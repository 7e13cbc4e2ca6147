//! What a GGUF file says of its model, as `config.json` and `generation_config.json` say it.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::architecture::{Architecture, Gemma};
use super::file::{GgufFile, ROPE_FACTORS};
use super::metadata::Keys;

/// The keys behind an architecture's name that are read, or change nothing. Every other one is refused.
const UNDERSTOOD: [&str; 26] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_used_count",
    "feed_forward_length",
    "pooling_type",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scale_linear",
    "vocab_size",
];

/// The base of the angles that llama.cpp gives layers that slide a window.
pub const THETA_OF_WINDOWS: f64 = 1e4;
/// llama.cpp's of Gemma 3: all layers but every so many slide a window.
pub const SLIDING_PATTERN: usize = 6;
/// llama.cpp's of SmolLM3: every so many has no rotary embedding.
pub const NO_ROPE_INTERVAL: usize = 4;

/// The layers of the one Gemma 3 (27B) whose scores are scaled by the mean width of a head.
const LAYERS_OF_27B: usize = 62;

impl GgufFile {
    /// The architecture.
    ///
    /// # Errors
    /// Where the file names none, or one that is not supported.
    pub fn architecture(&self) -> Result<Architecture> {
        let name = self.keys().text("general.architecture")?.context("general.architecture is missing")?;
        let kind = self.keys().text("general.type")?.unwrap_or("model");
        ensure!(kind == "model", "general.type is {kind:?}, and a model is needed");
        Architecture::of_gguf(name)
    }

    /// The model's `config.json`.
    ///
    /// # Errors
    /// Names the key that is missing, wrong or not supported.
    pub fn configuration(&self) -> Result<Map<String, Value>> {
        let architecture = self.architecture()?;
        let keys = Architected { keys: self.keys(), architecture };
        keys.check()?;
        let hidden_size = keys.required_size("embedding_length")?;
        let heads = keys.required_size("attention.head_count")?;
        ensure!(heads > 0, "{}.attention.head_count is 0", architecture.name);
        let head_dim = keys.head_dim(hidden_size, heads)?;
        let layers = keys.required_size("block_count")?;
        let embedding = self.tensor("token_embd.weight").context("token_embd.weight is missing")?;
        let has = |name: &str| self.tensor(name).is_some();
        let mut config = json!({
            "architectures": [architecture.class],
            "model_type": architecture.model_type,
            "hidden_size": hidden_size,
            "intermediate_size": keys.required_size("feed_forward_length")?,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": keys.size("attention.head_count_kv")?.unwrap_or(heads),
            "head_dim": head_dim,
            "vocab_size": embedding.shape[0],
            "max_position_embeddings": keys.required_size("context_length")?,
            "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon")?.context("the epsilon of the norms is missing")?,
            "tie_word_embeddings": !has("output.weight"),
            "mlp_bias": has("blk.0.ffn_up.bias"),
            "attention_bias": has("blk.0.attn_q.bias"),
            "bos_token_id": self.keys().size("tokenizer.ggml.bos_token_id")?,
            "eos_token_id": self.end_tokens()?.first(),
        });
        let fields = config.as_object_mut().context("an object")?;
        match architecture.gemma {
            None => fields.insert("hidden_act".into(), "silu".into()),
            Some(_) => fields.insert("hidden_activation".into(), "gelu_pytorch_tanh".into()),
        };
        let rope = keys.rope(self, head_dim)?;
        match architecture.gemma {
            Some(Gemma::Third) => fields.extend(keys.gemma3(rope, hidden_size, heads, layers)?),
            _ => drop(fields.insert("rope_parameters".into(), rope)),
        }
        if architecture.model_type == "smollm3" {
            fields.insert("no_rope_layer_interval".into(), NO_ROPE_INTERVAL.into());
        }
        Ok(std::mem::take(fields))
    }

    /// The width of a head.
    ///
    /// # Errors
    /// As [`GgufFile::configuration`].
    pub fn head_dim(&self) -> Result<usize> {
        let keys = Architected { keys: self.keys(), architecture: self.architecture()? };
        let heads = keys.required_size("attention.head_count")?;
        ensure!(heads > 0, "{}.attention.head_count is 0", keys.architecture.name);
        keys.head_dim(keys.required_size("embedding_length")?, heads)
    }

    /// The model's `generation_config.json`.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn generation(&self) -> Result<Map<String, Value>> {
        let ends = json!({ "eos_token_id": self.end_tokens()? });
        Ok(ends.as_object().cloned().unwrap_or_default())
    }

    /// What ends a text, and what ends a turn.
    fn end_tokens(&self) -> Result<Vec<usize>> {
        let keys = self.keys();
        let mut ends = Vec::new();
        for name in ["eos", "eot", "eom"] {
            ends.extend(keys.size(&format!("tokenizer.ggml.{name}_token_id"))?.filter(|id| !ends.contains(id)));
        }
        Ok(ends)
    }
}

/// The keys of an architecture.
struct Architected<'a> {
    keys: Keys<'a>,
    architecture: Architecture,
}

impl Architected<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name)
    }

    fn size(&self, name: &str) -> Result<Option<usize>> {
        self.keys.size(&self.key(name))
    }

    fn required_size(&self, name: &str) -> Result<usize> {
        self.keys.required_size(&self.key(name))
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        self.keys.number(&self.key(name))
    }

    /// Refuses what would be computed otherwise.
    fn check(&self) -> Result<()> {
        self.keys.refuse_unknown(&self.key(""), &UNDERSTOOD)?;
        for (name, harmless) in [("expert_count", 0.0), ("expert_used_count", 0.0), ("rope.scale_linear", 1.0)] {
            self.keys.refuse_unless(&self.key(name), harmless)?;
        }
        if self.architecture.gemma != Some(Gemma::Third) {
            self.keys.refuse_unless(&self.key("attention.sliding_window"), 0.0)?;
        }
        for name in ["attention.scale", "attention.sliding_window_pattern"] {
            let key = self.key(name);
            ensure!(self.keys.0.get(&key).is_none(), "{key} is not supported; use a model without it");
        }
        Ok(())
    }

    fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<usize> {
        let head_dim = self.size("attention.key_length")?.unwrap_or(hidden_size / heads);
        for name in ["attention.value_length", "rope.dimension_count"] {
            let other = self.size(name)?.unwrap_or(head_dim);
            ensure!(
                other == head_dim,
                "{} {other} is not the width of a head, {head_dim}, which is not supported",
                self.key(name)
            );
        }
        Ok(head_dim)
    }

    /// The rotary embedding of the layers that see all.
    fn rope(&self, file: &GgufFile, head_dim: usize) -> Result<Value> {
        let theta = self.number("rope.freq_base")?.unwrap_or(THETA_OF_WINDOWS);
        let key = self.key("rope.scaling.type");
        let mut rope = match self.keys.text(&key)?.unwrap_or("none") {
            "none" => json!({ "rope_type": "default" }),
            "linear" => json!({ "rope_type": "linear", "factor": self.factor()? }),
            "yarn" => json!({
                "rope_type": "yarn",
                "factor": self.factor()?,
                "original_max_position_embeddings": self.required_size("rope.scaling.original_context_length")?,
                "beta_fast": self.number("rope.scaling.yarn_beta_fast")?,
                "beta_slow": self.number("rope.scaling.yarn_beta_slow")?,
            }),
            other => bail!("{key} {other:?} is not supported; supported are \"none\", \"linear\" and \"yarn\""),
        };
        if file.tensor(ROPE_FACTORS).is_some() {
            ensure!(rope["rope_type"] == "default", "{key} is there beside {ROPE_FACTORS}, which is not supported");
            rope = file.llama3_scaling(theta, head_dim)?;
        }
        rope["rope_theta"] = theta.into();
        Ok(rope)
    }

    fn factor(&self) -> Result<f64> {
        let key = self.key("rope.scaling.factor");
        self.keys.number(&key)?.with_context(|| format!("{key} is missing"))
    }

    /// What Gemma 3's configuration has beside.
    fn gemma3(&self, rope: Value, hidden_size: usize, heads: usize, layers: usize) -> Result<Map<String, Value>> {
        let head_dim = self.head_dim(hidden_size, heads)?;
        let theta = self.number("rope.freq_base_swa")?.unwrap_or(THETA_OF_WINDOWS);
        let fields = json!({
            "query_pre_attn_scalar": if layers == LAYERS_OF_27B { hidden_size / heads } else { head_dim },
            "sliding_window": self.required_size("attention.sliding_window")?,
            "_sliding_window_pattern": SLIDING_PATTERN,
            "rope_parameters": {
                "full_attention": rope,
                "sliding_attention": { "rope_type": "default", "rope_theta": theta },
            },
        });
        Ok(fields.as_object().cloned().unwrap_or_default())
    }
}
