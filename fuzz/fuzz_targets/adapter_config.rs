//! The target `adapter_config`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("adapter_config");
