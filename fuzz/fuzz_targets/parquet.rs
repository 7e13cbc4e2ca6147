//! The target `parquet`.

#![no_main]

dqo_wgpu_fuzz::fuzz!("parquet");
