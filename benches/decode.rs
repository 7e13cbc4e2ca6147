//! Decoding: what a token costs, against the matrix products in it alone.

use std::path::Path;

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::host::{HostWork, MedianStep, StepEnds};
use super::shape::{Shape, randomize};
use super::timing::seconds_of;
use crate::device::{DType, Device};
use crate::kernels::{Heads, Layout, Matmul, Operand, OperandMut, Product};
use crate::model::{Build, Checkpoint, ModelConfig, Policy, Storage};
use crate::sample::{Generator, Request, SamplingSettings, Sizes};

/// The result of [`measure`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DecodeResult {
    /// Sequences that are decoded together.
    pub batch: usize,
    /// The median step's seconds: a token of every sequence.
    pub seconds: f64,
    pub tokens_per_second: f64,
    /// Seconds of the step's matrix products alone.
    pub product_seconds: f64,
    /// What the host did for it, where the device is a GPU.
    pub host: Option<HostWork>,
}

/// Tokens of a prompt, and of a response.
const PROMPT: usize = 128;
const RESPONSE: usize = 64;

/// What is decoded with.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights<'a> {
    /// Those of a model.
    Of(&'a Path),
    /// Random ones.
    Random(Shape),
}

/// Decodes greedily, `batch` sequences together.
///
/// # Errors
/// Where the model cannot be read or the device fails.
pub fn measure(device: &Device, weights: Weights, storage: Storage, batch: usize) -> Result<DecodeResult> {
    let (config, checkpoint) = match weights {
        Weights::Of(dir) => (ModelConfig::read(dir)?, Some(Checkpoint::open(dir)?)),
        Weights::Random(shape) => (shape.config()?, None),
    };
    let build = Build::new(device, &config, checkpoint.as_ref(), "policy", storage);
    let sizes = Sizes { batch, prompt: PROMPT, tokens: PROMPT + RESPONSE };
    let mut policy = Policy::load(&build, sizes.tokens)?;
    if checkpoint.is_none() {
        randomize(&mut policy)?;
    }
    let mut generator = Generator::new(&build, Vec::new(), sizes)?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut prompt = || (0..PROMPT).map(|_| rng.random_range(0..config.vocab_size as u32)).collect();
    let requests: Vec<Request> = (0..batch).map(|_| Request { prompt_ids: prompt(), seed: 0, stream: 0 }).collect();

    let mut ends = StepEnds::new(device);
    let step = |request, _| {
        if request == 0 {
            ends.note();
        }
        Ok(true)
    };
    generator.run(&policy, requests, &SamplingSettings::greedy(RESPONSE), step, |_| Ok(true))?;
    let MedianStep { seconds, host } = ends.median();
    Ok(DecodeResult {
        batch,
        seconds,
        tokens_per_second: batch as f64 / seconds,
        product_seconds: product_seconds(device, &config, storage, batch)?,
        host,
    })
}

/// Seconds of every `y = x W^T` of a step, each measured by itself.
fn product_seconds(device: &Device, config: &ModelConfig, storage: Storage, rows: usize) -> Result<f64> {
    let Heads { heads, kv_heads, head_dim } = config.heads;
    let (hidden, intermediate, layers) = (config.hidden_size, config.intermediate_size, config.num_hidden_layers);
    let (q, kv) = (heads * head_dim, kv_heads * head_dim);
    let of_layers = [
        (q, hidden, layers),
        (kv, hidden, 2 * layers),
        (hidden, q, layers),
        (intermediate, hidden, 2 * layers),
        (hidden, intermediate, layers),
    ];
    let head = (config.vocab_size.next_multiple_of(4), hidden, 1);
    let products =
        of_layers.map(|product| (product, storage.dtype)).into_iter().chain([(head, storage.beside_layers(false))]);
    let mut sum = 0.0;
    for ((outputs, inputs, count), dtype) in products {
        let tensor = |name: &str, shape: [usize; 2], dtype| device.tensor(format!("bench/{name}"), &shape, dtype);
        let mut x = tensor("x", [rows, inputs], DType::Real)?;
        let mut w = tensor("w", [outputs, inputs], dtype)?;
        let mut y = tensor("y", [rows, outputs], DType::Real)?;
        x.write(0, (0..rows * inputs).map(|i| (i % 7) as f64 - 3.0))?;
        w.write(0, (0..outputs * inputs).map(|i| (i % 5) as f64 - 2.0))?;
        let product = || {
            let product = Product {
                layout: Layout::Nt,
                rows,
                cols: outputs,
                inner: inputs,
                a: Operand::whole(&x, inputs),
                b: Operand::whole(&w, inputs),
                c: OperandMut::whole(&mut y, outputs),
                accumulate: false,
            };
            Matmul::run(device, product);
        };
        sum += count as f64 * seconds_of(device, product)?;
    }
    Ok(sum)
}
