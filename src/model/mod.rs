//! The transformer: a decoder described by its configuration, an LM head and a value head, forward and backward.

mod adapter;
mod attention;
mod build;
mod cache;
mod checkpoint;
mod config;
mod decoder;
mod keep;
mod layer;
mod linear;
mod lm_head;
mod lora;
mod merge;
mod mlp;
mod network;
mod norm;
mod parameter;
mod pass;
mod save;
mod stored;
mod stream;
mod weight_type;

pub use adapter::{Adapter, LINEAR_LAYERS, LoraConfig, TaskType, save_adapter};
pub use build::{Base, Build};
pub use cache::{Cache, CachePlaces, InCache, NewestToken};
pub use checkpoint::{Checkpoint, Values};
pub use config::{Llama3Scaling, ModelConfig, Rope, token_ids};
pub use decoder::{Activations, Scratch};
pub use keep::Keep;
pub use lm_head::LmHeadActivations;
pub use merge::merge_adapter;
pub use network::{Policy, PolicyActivations, Value, ValueActivations};
pub use parameter::{Parameter, Shard, Storage};
pub use save::{save_policy, save_value};
pub use stored::write_safetensors;
pub use weight_type::WeightType;
