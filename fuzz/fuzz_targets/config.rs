//! The target `config`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("config");
