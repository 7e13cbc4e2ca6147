//! The target `tokenizer_config`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("tokenizer_config");
