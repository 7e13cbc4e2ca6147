//! The architectures that llama.cpp and Hugging Face both have: their names, their tensors' names, and in what the values differ.

use anyhow::{Result, bail};

use super::change::Change;

/// An architecture of llama.cpp's, as one of Hugging Face's model types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// The `model_type` of `config.json`.
    pub model_type: &'static str,
    /// The class of its policies.
    pub(super) class: &'static str,
    /// llama.cpp turns neighbours where transformers turns values that are half a head apart: the rows of the query and key
    /// projections are in another order.
    pub(super) turns_neighbours: bool,
    pub(super) gemma: Option<Gemma>,
}

/// Gemma's own: norms are stored whole, where Hugging Face has them less 1. The third has four norms a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gemma {
    First,
    Third,
}

const LLAMA: Architecture =
    Architecture { name: "llama", model_type: "llama", class: "LlamaForCausalLM", turns_neighbours: true, gemma: None };

/// The first of a name is what a file of it is read as.
const ARCHITECTURES: [Architecture; 7] = [
    LLAMA,
    Architecture { model_type: "mistral", class: "MistralForCausalLM", ..LLAMA },
    Architecture { name: "smollm3", model_type: "smollm3", class: "SmolLM3ForCausalLM", ..LLAMA },
    Architecture { name: "qwen2", model_type: "qwen2", class: "Qwen2ForCausalLM", turns_neighbours: false, ..LLAMA },
    Architecture { name: "qwen3", model_type: "qwen3", class: "Qwen3ForCausalLM", turns_neighbours: false, ..LLAMA },
    Architecture {
        name: "gemma",
        model_type: "gemma",
        class: "GemmaForCausalLM",
        turns_neighbours: false,
        gemma: Some(Gemma::First),
    },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        class: "Gemma3ForCausalLM",
        turns_neighbours: false,
        gemma: Some(Gemma::Third),
    },
];

/// Tensors beside the layers, by Hugging Face's names and by llama.cpp's.
const BESIDE_LAYERS: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Tensors of a layer, likewise.
const OF_LAYERS: [(&str, &str); 10] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The norms around the MLP, where there is one before it and where there are four a layer.
const TWO_NORMS: [(&str, &str); 1] = [("post_attention_layernorm", "ffn_norm")];
const FOUR_NORMS: [(&str, &str); 3] = [
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

impl Architecture {
    /// The one that a GGUF file names.
    ///
    /// # Errors
    /// Names it where there is none.
    pub fn of_gguf(name: &str) -> Result<Self> {
        match ARCHITECTURES.iter().find(|known| known.name == name) {
            Some(known) => Ok(*known),
            None => {
                let mut known: Vec<_> = ARCHITECTURES.iter().map(|known| known.name).collect();
                known.dedup();
                bail!("general.architecture {name:?} is not supported; supported are {}", known.join(", "))
            }
        }
    }

    /// The one of a `model_type` of Hugging Face's.
    pub fn of_model_type(model_type: &str) -> Option<Self> {
        ARCHITECTURES.iter().find(|known| known.model_type == model_type).copied()
    }

    /// Hugging Face's name of a tensor or of a module.
    pub fn hugging_face_name(self, name: &str) -> Option<String> {
        let (place, suffix) = split(name);
        if let Some((layer, part)) = place.strip_prefix("blk.").and_then(|place| place.split_once('.')) {
            let (own, _) = self.of_layers().find(|(_, theirs)| *theirs == part)?;
            return Some(format!("model.layers.{layer}.{own}{suffix}"));
        }
        BESIDE_LAYERS.iter().find(|(_, theirs)| *theirs == place).map(|(own, _)| format!("{own}{suffix}"))
    }

    /// llama.cpp's name of a tensor or of a module.
    pub fn llama_cpp_name(self, name: &str) -> Option<String> {
        let (place, suffix) = split(name);
        if let Some((layer, part)) = place.strip_prefix("model.layers.").and_then(|place| place.split_once('.')) {
            let (_, theirs) = self.of_layers().find(|(own, _)| *own == part)?;
            return Some(format!("blk.{layer}.{theirs}{suffix}"));
        }
        BESIDE_LAYERS.iter().find(|(own, _)| *own == place).map(|(_, theirs)| format!("{theirs}{suffix}"))
    }

    fn of_layers(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let norms: &[_] = if self.gemma == Some(Gemma::Third) { &FOUR_NORMS } else { &TWO_NORMS };
        OF_LAYERS.iter().chain(norms).copied()
    }

    /// In what a tensor's values differ, by Hugging Face's name of it.
    pub fn change(self, name: &str) -> Option<Change> {
        let (place, _) = split(name);
        if self.gemma.is_some() && place.ends_with("norm") {
            return Some(Change::OneMore);
        }
        let is_turned = place.ends_with(".q_proj") || place.ends_with(".k_proj");
        (self.turns_neighbours && is_turned).then_some(Change::HeadRows)
    }
}

/// A name without `.weight` or `.bias`, and that.
fn split(name: &str) -> (&str, &str) {
    let place = name.strip_suffix(".weight").or(name.strip_suffix(".bias")).unwrap_or(name);
    (place, &name[place.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for architecture in ARCHITECTURES {
            for (name, theirs) in [
                ("model.embed_tokens.weight", "token_embd.weight"),
                ("lm_head.weight", "output.weight"),
                ("model.layers.11.self_attn.q_proj.bias", "blk.11.attn_q.bias"),
                ("model.layers.0.mlp.down_proj", "blk.0.ffn_down"),
            ] {
                assert_eq!(architecture.llama_cpp_name(name).as_deref(), Some(theirs));
                assert_eq!(architecture.hugging_face_name(theirs).as_deref(), Some(name));
            }
            for name in ["model.layers.0.post_attention_layernorm.weight", "model.layers.3.self_attn.k_norm.weight"] {
                let theirs = architecture.llama_cpp_name(name).unwrap();
                assert_eq!(architecture.hugging_face_name(&theirs).as_deref(), Some(name));
            }
            assert_eq!(architecture.hugging_face_name("blk.0.ffn_gate_exps.weight"), None);
        }
    }
}
