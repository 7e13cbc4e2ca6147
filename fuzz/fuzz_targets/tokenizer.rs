//! The target `tokenizer`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("tokenizer");
