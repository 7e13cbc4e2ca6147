//! The target `gguf_blocks`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("gguf_blocks");
