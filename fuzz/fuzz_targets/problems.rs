//! The target `problems`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("problems");
