//! The target `pairs`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("pairs");
