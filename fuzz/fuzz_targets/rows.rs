//! The target `rows`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("rows");
