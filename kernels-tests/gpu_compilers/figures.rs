//! What a compiler says of a pipeline, under one name on all of them.

use std::collections::BTreeMap;

use dqo_wgpu::gpu::BuiltPipeline;
use serde::{Deserialize, Serialize};

use super::assembly::{fma_share, matrix_share};
use super::spirv::Shader;
use super::vulkan::Said;

/// A compiler, and what it made of every pipeline.
#[derive(Serialize, Deserialize)]
pub struct Report {
    /// As `tools/gpu-compilers` calls it.
    pub gpu: String,
    /// As the driver calls it.
    pub name: String,
    /// The driver's version.
    pub driver: String,
    pub rows: Vec<Row>,
}

/// A pipeline.
#[derive(Clone, Serialize, Deserialize)]
pub struct Row {
    pub kernel: String,
    /// Kernel, variant and constants.
    pub pipeline: String,
    pub head_dim: Option<u32>,
    /// Of [`FIGURES`] those that this compiler tells.
    pub figures: BTreeMap<String, f64>,
    /// Of wgpu and the driver together.
    pub seconds: f64,
}

/// A figure's name, and the statistics that add up to it where a driver has all of them: AMD's, Apple's, NVIDIA's, Adreno's.
pub const FIGURES: [(&str, &[&[&str]]); 9] = [
    ("registers", &[&["VGPRs"], &["GPRs"], &["Number of GPRs"], &["Registers used"]]),
    (
        "spills",
        &[
            &["Spilled VGPRs", "Spilled SGPRs"],
            &["Spills", "Fills"],
            &["Spills to memory", "Fills from memory"],
            &["STP Count", "LDP Count"],
        ],
    ),
    ("scratch", &[&["Scratch size"], &["Scratch"], &["SLM size"]]),
    ("workgroup_memory", &[&["LDS size"]]),
    ("occupancy", &[&["Subgroups per SIMD"], &["Threads"], &["Max warps/SM"], &["Max Waves Per Core"]]),
    ("instructions", &[&["Instructions"], &["Instruction count"], &["Instruction Count"]]),
    ("cycles", &[&["Inverse Throughput"], &["Static cycle count"]]),
    ("fma_share", &[]),
    ("matrix_share", &[]),
];

/// The cycles that a product of two matrices of 16 x 16 takes a SIMD, by what AMD gives as operations a clock: 512 a compute unit of
/// two SIMDs on RDNA 3, twice that on RDNA 4.
const PRODUCTS: [(&str, u32); 2] = [("navi31", 32), ("gfx1201", 16)];

/// The row of a pipeline.
pub fn row(gpu: &str, built: &BuiltPipeline, shader: &Shader, said: &Said) -> Row {
    let assembly = said.texts.get("Assembly");
    let cycles = PRODUCTS.iter().find(|(of, _)| *of == gpu).map(|(_, cycles)| *cycles);
    let sum = |names: &&[&str]| names.iter().map(|name| said.statistics.get(*name)).sum::<Option<f64>>();
    let of = |&(figure, statistics): &(&str, &[&[&str]])| {
        let value = match figure {
            "fma_share" => assembly.and_then(|text| fma_share(text)),
            "matrix_share" => assembly.zip(cycles).and_then(|(text, cycles)| matrix_share(text, cycles)),
            _ => statistics.iter().find_map(sum),
        };
        Some((figure.to_owned(), value?))
    };
    let mut figures: BTreeMap<String, f64> = FIGURES.iter().filter_map(of).collect();
    figures.entry("workgroup_memory".to_owned()).or_insert(shader.workgroup_memory.into());
    Row {
        kernel: built.label.split(' ').next().unwrap_or_default().to_owned(),
        pipeline: built.name(),
        head_dim: shader.head_dim,
        figures,
        seconds: built.seconds,
    }
}
