//! Offline reinforcement learning of language models on any GPU: hand-written WGSL kernels with CPU twins, a small
//! transformer with hand-written forward and backward passes, and a thin trainer.

// What is said goes through `progress::say` and results through the command line's `print`: a reader that is gone ends no run.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod cli;
pub mod data;
pub mod demo;
pub mod device;
pub mod files;
pub mod format;
pub mod gpu;
pub mod grade;
pub mod hub;
pub mod kernels;
pub mod model;
pub mod objective;
pub mod progress;
pub mod report;
pub mod sample;
pub mod self_test;
pub mod train;

#[path = "../benches/mod.rs"]
pub mod benches;
