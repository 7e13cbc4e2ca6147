//! The families of models: what they differ in where `config.json` is silent.

use super::layer_kinds::Sliding;

/// What the families differ in where the configuration is silent.
pub(super) struct Family {
    pub model_type: &'static str,
    pub name: &'static str,
    pub value_architecture: &'static str,
    pub tied: bool,
    /// Else `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    pub qkv_bias: bool,
    pub qk_norm: bool,
    pub gemma: Option<Gemma>,
    pub sliding: Sliding,
    pub rope_theta: f64,
}

/// Gemma's own: norms less 1, embeddings that are scaled. The third has four norms a layer, and scores by
/// `query_pre_attn_scalar`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gemma {
    First,
    Third,
}

const LLAMA: Family = Family {
    model_type: "llama",
    name: "Llama",
    value_architecture: "LlamaForTokenClassification",
    tied: false,
    head_dim: None,
    qkv_bias: false,
    qk_norm: false,
    gemma: None,
    sliding: Sliding::Never,
    rope_theta: 10_000.0,
};

/// Those that are computed.
pub(super) const FAMILIES: [Family; 7] = [
    LLAMA,
    Family {
        model_type: "mistral",
        name: "Mistral",
        value_architecture: "MistralForTokenClassification",
        sliding: Sliding::Everywhere,
        ..LLAMA
    },
    Family {
        model_type: "qwen2",
        name: "Qwen2",
        value_architecture: "Qwen2ForTokenClassification",
        qkv_bias: true,
        sliding: Sliding::FromMaxWindowLayers,
        ..LLAMA
    },
    Family {
        model_type: "qwen3",
        name: "Qwen3",
        value_architecture: "Qwen3ForTokenClassification",
        head_dim: Some(128),
        qk_norm: true,
        sliding: Sliding::FromMaxWindowLayers,
        ..LLAMA
    },
    Family {
        model_type: "smollm3",
        name: "SmolLM3",
        value_architecture: "SmolLM3ForTokenClassification",
        tied: true,
        sliding: Sliding::WithoutRope,
        rope_theta: 2e6,
        ..LLAMA
    },
    Family {
        model_type: "gemma",
        name: "Gemma",
        value_architecture: "GemmaForTokenClassification",
        tied: true,
        head_dim: Some(256),
        gemma: Some(Gemma::First),
        ..LLAMA
    },
    Family {
        model_type: "gemma3_text",
        name: "Gemma3",
        // transformers has no token classifier of it; this one's head is the same, without a bias.
        value_architecture: "Gemma3TextForSequenceClassification",
        tied: true,
        head_dim: Some(256),
        qk_norm: true,
        gemma: Some(Gemma::Third),
        sliding: Sliding::AllButEverySixth,
        ..LLAMA
    },
];
