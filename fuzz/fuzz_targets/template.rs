//! The target `template`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("template");
