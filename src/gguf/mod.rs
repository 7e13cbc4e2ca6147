//! GGUF, llama.cpp's format of a whole model in one file: read as the Hugging Face directory that it stands for, and written.

mod architecture;
mod blocks;
mod change;
mod configuration;
mod file;
mod metadata;
mod pre_tokenizers;
mod rope_factors;
mod tokenizer;
mod vocabulary;
mod writer;

pub use architecture::Architecture;
pub use blocks::BlockFormat;
pub use change::{Change, Direction};
pub use configuration::{NO_ROPE_INTERVAL, SLIDING_PATTERN, THETA_OF_WINDOWS};
pub use file::{GgufFile, GgufTensor, ROPE_FACTORS, ValueFormat};
pub use vocabulary::{Around, NewVocabulary};
pub use writer::{Entries, NewTensor, write_gguf};
