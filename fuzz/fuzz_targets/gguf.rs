//! The target `gguf`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("gguf");
