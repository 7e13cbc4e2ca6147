//! The target `weights`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("weights");
