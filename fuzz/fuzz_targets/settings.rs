//! The target `settings`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("settings");
