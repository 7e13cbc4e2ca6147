//! Llama 3's rotary scaling, which a GGUF file has as a factor for each frequency.

use std::f64::consts::PI;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, ensure};
use safetensors::Dtype;
use serde_json::{Value, json};

use super::file::{GgufFile, ROPE_FACTORS, ValueFormat};
use crate::files::open_file;

/// What all published models of the kind have.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const LENGTH: f64 = 8192.0;

/// `rope_type: llama3` between [`LOW`] and [`HIGH`].
struct Scaling {
    factor: f64,
    original_length: f64,
}

impl Scaling {
    /// The one whose factors these are, if any is: the largest, and the length by which the first of those between was blended.
    fn of(factors: &[f32], theta: f64) -> Self {
        let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
        let blended = factors.iter().position(|&stored| 1.0 < stored && f64::from(stored) < factor);
        let length = blended.map(|i| {
            let smooth = (1.0 / f64::from(factors[i]) - 1.0 / factor) / (1.0 - 1.0 / factor);
            let turns = smooth * (HIGH - LOW) + LOW;
            (turns * 2.0 * PI / frequency(theta, i, factors.len())).round()
        });
        Self { factor, original_length: length.unwrap_or(LENGTH) }
    }

    /// What each of `pairs` frequencies is divided by.
    fn factors(&self, theta: f64, pairs: usize) -> impl Iterator<Item = f64> {
        (0..pairs).map(move |i| {
            let turns = self.original_length * frequency(theta, i, pairs) / (2.0 * PI);
            let smooth = ((turns - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
            1.0 / ((1.0 - smooth) / self.factor + smooth)
        })
    }
}

fn frequency(theta: f64, i: usize, pairs: usize) -> f64 {
    theta.powf(-(i as f64 / pairs as f64))
}

impl GgufFile {
    /// The `rope_parameters` whose factors the file has.
    pub(super) fn llama3_scaling(&self, theta: f64, head_dim: usize) -> Result<Value> {
        let stored = self.rope_factors(head_dim)?;
        let scaling = Scaling::of(&stored, theta);
        let Scaling { factor, original_length } = scaling;
        // Both are computed in f32 where models are converted.
        let is_near = |(stored, computed): (&f32, f64)| (f64::from(*stored) / computed - 1.0).abs() < 1e-4;
        ensure!(
            factor > 1.0 && stored.iter().zip(scaling.factors(theta, stored.len())).all(is_near),
            "{ROPE_FACTORS} is not Llama 3's scaling from {LOW} to {HIGH} turns, which alone is supported"
        );
        Ok(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
            "original_max_position_embeddings": original_length,
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
