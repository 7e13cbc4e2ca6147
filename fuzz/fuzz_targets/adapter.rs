//! The target `adapter`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("adapter");
