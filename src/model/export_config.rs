//! A model's configuration as a GGUF file's metadata, and the refusal, by name, of what llama.cpp would compute otherwise.

use anyhow::{Context, Result, bail, ensure};

use super::config::ModelConfig;
use super::layer_kinds::LayerKind;
use super::network::LM_HEAD;
use super::rope::{Rope, Scaling, YarnScaling};
use crate::gguf::{Architecture, Entries, NO_ROPE_INTERVAL, SLIDING_PATTERN, THETA_OF_WINDOWS};
use crate::kernels::Activation;

impl ModelConfig {
    /// llama.cpp's architecture of the model.
    ///
    /// # Errors
    /// Names the field that llama.cpp has no words for.
    pub(super) fn llama_cpp_architecture(&self) -> Result<Architecture> {
        let model_type = self.json.get("model_type").and_then(|name| name.as_str()).unwrap_or_default();
        let architecture = Architecture::of_model_type(model_type);
        let architecture =
            architecture.with_context(|| format!("model_type {model_type:?} has no name in GGUF files"))?;
        let is_gemma = self.norm_offset != 0.0;
        let usual = if is_gemma { Activation::GeluTanh } else { Activation::Silu };
        ensure!(self.activation == usual, "hidden_act is not {usual:?}, which llama.cpp takes it for");
        ensure!(
            !is_gemma || self.tie_word_embeddings,
            "tie_word_embeddings is false, which llama.cpp's Gemma has no head for"
        );
        let has_biases = (self.qkv_bias && architecture.name != "qwen2") || self.output_bias || self.mlp_bias;
        ensure!(
            !has_biases || architecture.name == "llama",
            "attention_bias and mlp_bias are not in llama.cpp's {}",
            architecture.name
        );
        self.check_layers(architecture)?;
        Ok(architecture)
    }

    /// Checks that the layers are those that llama.cpp makes of the architecture.
    fn check_layers(&self, architecture: Architecture) -> Result<()> {
        let expected = |layer: usize| match architecture.name {
            "gemma3" => {
                let slides = !(layer + 1).is_multiple_of(SLIDING_PATTERN);
                LayerKind { rope: Some(usize::from(slides)), slides }
            }
            "smollm3" => {
                let rotates = !(layer + 1).is_multiple_of(NO_ROPE_INTERVAL);
                LayerKind { rope: rotates.then_some(0), slides: false }
            }
            _ => LayerKind { rope: Some(0), slides: false },
        };
        for (layer, kind) in self.layers.kinds.iter().enumerate() {
            ensure!(
                *kind == expected(layer),
                "layer {layer} slides a window, or rotates, otherwise than in llama.cpp's {}",
                architecture.name
            );
        }
        if architecture.name == "gemma3" {
            let windows = &self.layers.ropes[1];
            ensure!(
                windows.scaling.is_none(),
                "layers that slide a window have scaled rotary embeddings, which llama.cpp's have not"
            );
        }
        let width = self.heads.head_dim as f64;
        let is_usual = (f64::from(self.attention_scale) * width.sqrt() - 1.0).abs() < 1e-6;
        ensure!(is_usual, "query_pre_attn_scalar is not the head_dim, which llama.cpp takes it for");
        Ok(())
    }

    /// Whether a tensor is not written: a head that is the embedding.
    pub(super) fn leaves_out(&self, name: &str) -> bool {
        name == LM_HEAD && self.tie_word_embeddings
    }

    /// Says what the model is.
    ///
    /// # Errors
    /// Names the field that llama.cpp has no words for.
    pub(super) fn describe(&self, architecture: Architecture, entries: &mut Entries) -> Result<()> {
        let key = |name: &str| format!("{}.{name}", architecture.name);
        let heads = self.heads;
        for (name, size) in [
            ("context_length", self.context_length.min(u32::MAX as usize)),
            ("embedding_length", self.hidden_size),
            ("block_count", self.num_hidden_layers),
            ("feed_forward_length", self.intermediate_size),
            ("attention.head_count", heads.heads),
            ("attention.head_count_kv", heads.kv_heads),
            ("attention.key_length", heads.head_dim),
            ("attention.value_length", heads.head_dim),
            ("rope.dimension_count", heads.head_dim),
            ("vocab_size", self.vocab_size),
        ] {
            entries.size(&key(name), size);
        }
        entries.number(&key("attention.layer_norm_rms_epsilon"), self.rms_norm_eps.into());
        if let Some(window) = self.layers.sliding_window {
            entries.size(&key("attention.sliding_window"), window);
        }
        let rope = &self.layers.ropes[0];
        entries.number(&key("rope.freq_base"), rope.theta);
        if let Some(windows) = self.layers.ropes.get(1).filter(|windows| windows.theta != THETA_OF_WINDOWS) {
            entries.number(&key("rope.freq_base_swa"), windows.theta);
        }
        rope.describe_scaling(key, entries)
    }

    /// What llama.cpp divides frequencies by, where the model has Llama 3's scaling.
    pub(super) fn rope_factors(&self) -> Option<Vec<f32>> {
        let Some(Scaling::Llama3(_)) = self.layers.ropes[0].scaling else { return None };
        let rope = &self.layers.ropes[0];
        let unscaled = Rope { theta: rope.theta, scaling: None }.frequencies(self.heads.head_dim);
        let scaled = rope.frequencies(self.heads.head_dim);
        Some(unscaled.iter().zip(scaled).map(|(unscaled, scaled)| unscaled / scaled).collect())
    }
}

impl Rope {
    fn describe_scaling(&self, key: impl Fn(&str) -> String, entries: &mut Entries) -> Result<()> {
        let scaling = |entries: &mut Entries, name: &str, factor: f64| {
            entries.text(&key("rope.scaling.type"), name);
            entries.number(&key("rope.scaling.factor"), factor);
        };
        match &self.scaling {
            // Llama 3's is a tensor.
            None | Some(Scaling::Llama3(_)) => {}
            Some(Scaling::Linear { factor }) => scaling(entries, "linear", *factor),
            Some(Scaling::Yarn(yarn)) => {
                let YarnScaling { factor, beta_fast, beta_slow, original_max_position_embeddings, .. } = *yarn;
                if !yarn.truncate || (yarn.attention_factor - (0.1 * factor.ln() + 1.0)).abs() > 1e-6 {
                    bail!(
                        "rope_type \"yarn\" with an attention_factor of its own, or not truncated, is not in llama.cpp"
                    );
                }
                scaling(entries, "yarn", factor);
                entries.size(&key("rope.scaling.original_context_length"), original_max_position_embeddings as usize);
                entries.number(&key("rope.scaling.yarn_beta_fast"), beta_fast);
                entries.number(&key("rope.scaling.yarn_beta_slow"), beta_slow);
            }
        }
        Ok(())
    }
}
