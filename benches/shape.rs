//! Models of random weights in the shape of real ones, made on the spot.

use anyhow::Result;
use clap::ValueEnum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{ModelConfig, Policy};

/// Whose shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A Llama of hidden 256, 4 layers, 4 heads, intermediate 768 and a tied vocabulary of 4096
    Small,
    /// SmolLM2-135M
    #[value(name = "135m")]
    #[serde(rename = "135m")]
    M135,
    /// Qwen2-0.5B
    #[value(name = "0.5b")]
    #[serde(rename = "0.5b")]
    B0_5,
    /// Qwen2-1.5B
    #[value(name = "1.5b")]
    #[serde(rename = "1.5b")]
    B1_5,
}

impl Shape {
    /// The model's `config.json`.
    pub fn json(self) -> Value {
        let (family, sizes, vocabulary) = match self {
            Self::Small => ("llama", [256, 768, 4, 4, 4], 4096),
            Self::M135 => ("llama", [576, 1536, 30, 9, 3], 49152),
            Self::B0_5 => ("qwen2", [896, 4864, 24, 14, 2], 151_936),
            Self::B1_5 => ("qwen2", [1536, 8960, 28, 12, 2], 151_936),
        };
        let [hidden, intermediate, layers, heads, kv_heads] = sizes;
        let (class, theta, epsilon) = match family {
            "qwen2" => ("Qwen2ForCausalLM", 1e6, 1e-6),
            _ => ("LlamaForCausalLM", 1e4, 1e-5),
        };
        json!({
            "architectures": [class], "model_type": family, "hidden_size": hidden, "intermediate_size": intermediate,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "vocab_size": vocabulary, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": epsilon,
            "rope_theta": theta,
        })
    }

    /// The model's configuration.
    ///
    /// # Errors
    /// None: it is one that the program knows.
    pub fn config(self) -> Result<ModelConfig> {
        ModelConfig::of_json(self.json().as_object().cloned().unwrap_or_default())
    }

    /// Sequences of a training step, and the tokens of each.
    pub fn step(self) -> (usize, usize) {
        match self {
            Self::Small => (8, 128),
            Self::M135 | Self::B0_5 => (4, 512),
            Self::B1_5 => (2, 512),
        }
    }
}

/// Random values of a model; what a matrix has beyond them is these again. A prime, so that its rows differ.
const DISTINCT: usize = 1_048_573;

/// Sets the matrices to values between -0.05 and 0.05, norms to 1 and biases to 0.
///
/// # Errors
/// Where the device fails.
pub fn randomize(policy: &mut Policy) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f64> = (0..DISTINCT).map(|_| rng.random_range(-0.05..0.05)).collect();
    for parameter in policy.parameters_mut() {
        let same = match (parameter.rows(), parameter.name().ends_with("bias")) {
            (1, true) => Some(0.0),
            (1, false) => Some(1.0),
            _ => None,
        };
        parameter.write_with(|first, count| {
            (first..first + count).map(|place| same.unwrap_or_else(|| values[place % DISTINCT]))
        })?;
    }
    Ok(())
}
