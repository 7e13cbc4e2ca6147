//! Offline reinforcement learning of language models on any GPU: hand-written WGSL kernels with CPU twins, a small
//! transformer with hand-written forward and backward passes, and a thin trainer.

pub mod cli;
pub mod data;
pub mod demo;
pub mod device;
pub mod gpu;
pub mod grade;
pub mod hub;
pub mod kernels;
pub mod model;
pub mod objective;
pub mod report;
pub mod sample;
pub mod train;

/// `1536` as `1.5 KiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[path = "../benches/mod.rs"]
pub mod benches;
