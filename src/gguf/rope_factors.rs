//! Llama 3's rotary scaling, which a GGUF file has as a factor for each frequency.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, ensure};
use safetensors::Dtype;
use serde_json::{Value, json};

use super::file::{GgufFile, ValueFormat};
use crate::files::open_file;

/// The tensor that has them.
pub const ROPE_FACTORS: &str = "rope_freqs.weight";

/// What all published models of the kind have.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const LENGTH: f64 = 8192.0;

/// What each frequency is divided by, of `rope_type: llama3`.
fn factors(factor: f64, theta: f64, head_dim: usize) -> Vec<f32> {
    let factor_of = |i: usize| {
        let frequency = theta.powf(-((2 * i) as f64 / head_dim as f64));
        let turns = LENGTH * frequency / (2.0 * std::f64::consts::PI);
        let smooth = ((turns - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    (0..head_dim / 2).map(factor_of).collect()
}

impl GgufFile {
    /// The `rope_parameters` whose factors the file has.
    pub(super) fn llama3_scaling(&self, theta: f64, head_dim: usize) -> Result<Value> {
        let stored = self.rope_factors(head_dim)?;
        let factor = f64::from(stored.iter().copied().fold(1.0, f32::max));
        // Both are computed in f32 where models are converted.
        let is_near = |(stored, computed): (&f32, f32)| (stored / computed - 1.0).abs() < 1e-4;
        ensure!(
            stored.iter().zip(factors(factor, theta, head_dim)).all(is_near),
            "{ROPE_FACTORS} is not Llama 3's scaling of {LENGTH} tokens by {factor}, which alone is supported"
        );
        Ok(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
            "original_max_position_embeddings": LENGTH,
        }))
    }

    fn rope_factors(&self, head_dim: usize) -> Result<Vec<f32>> {
        let tensor = self.tensor(ROPE_FACTORS).context("asked for where it is there")?;
        ensure!(
            tensor.format == ValueFormat::Plain(Dtype::F32) && tensor.shape == [head_dim / 2],
            "{ROPE_FACTORS} is not {} values in F32",
            head_dim / 2
        );
        let mut bytes = vec![0; tensor.bytes.len()];
        let mut file: File = open_file(self.path())?;
        let read = file.seek(SeekFrom::Start(tensor.bytes.start as u64)).and_then(|_| file.read_exact(&mut bytes));
        read.with_context(|| format!("{}: cannot be read", self.path().display()))?;
        Ok(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}
