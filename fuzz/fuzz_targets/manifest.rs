//! The target `manifest`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("manifest");
