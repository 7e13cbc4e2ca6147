//! Decoding: what a token costs, against the matrix products in it alone.

use std::path::Path;

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::json;

use super::host::{HostWork, MedianStep, StepEnds};
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

/// Decodes greedily, `batch` sequences together, with a model's weights or, without one, random ones in the shape of
/// SmolLM2-135M.
///
/// # Errors
/// Where the model cannot be read or the device fails.
pub fn measure(device: &Device, model: Option<&Path>, batch: usize) -> Result<DecodeResult> {
    let config = match model {
        Some(dir) => ModelConfig::read(dir)?,
        None => smollm2()?,
    };
    let checkpoint = model.map(Checkpoint::open).transpose()?;
    let storage = Storage { dtype: DType::Real, trainable: false };
    let build = Build::new(device, &config, checkpoint.as_ref(), "policy", storage);
    let sizes = Sizes { batch, prompt: PROMPT, tokens: PROMPT + RESPONSE };
    let mut policy = Policy::load(&build, sizes.tokens)?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    if checkpoint.is_none() {
        randomize(&mut policy, &mut rng)?;
    }
    let mut generator = Generator::new(&build, Vec::new(), sizes)?;
    let mut prompt = || (0..PROMPT).map(|_| rng.random_range(0..config.vocab_size as u32)).collect();
    let requests: Vec<Request> = (0..batch).map(|_| Request { prompt_ids: prompt(), stream: 0 }).collect();

    let mut ends = StepEnds::new(device);
    let step = |request, _| {
        if request == 0 {
            ends.note();
        }
        Ok(true)
    };
    generator.run(&policy, requests, &SamplingSettings::greedy(RESPONSE), 0, step, |_| Ok(true))?;
    let MedianStep { seconds, host } = ends.median();
    Ok(DecodeResult {
        batch,
        seconds,
        tokens_per_second: batch as f64 / seconds,
        product_seconds: product_seconds(device, &config, batch)?,
        host,
    })
}

fn smollm2() -> Result<ModelConfig> {
    let json = json!({
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": true,
        "hidden_act": "silu", "rms_norm_eps": 1e-5,
    });
    ModelConfig::of_json(json.as_object().cloned().unwrap_or_default())
}

fn randomize(policy: &mut Policy, rng: &mut ChaCha8Rng) -> Result<()> {
    for parameter in policy.parameters_mut() {
        for shard in parameter.shards_mut() {
            let values: Vec<f64> = (0..shard.weight.len()).map(|_| rng.random_range(-0.05..0.05)).collect();
            shard.parts_mut().0.write(0, values.into_iter())?;
        }
    }
    Ok(())
}

/// Seconds of every `y = x W^T` of a step, each measured by itself.
fn product_seconds(device: &Device, config: &ModelConfig, rows: usize) -> Result<f64> {
    let Heads { heads, kv_heads, head_dim } = config.heads;
    let (hidden, intermediate, layers) = (config.hidden_size, config.intermediate_size, config.num_hidden_layers);
    let (q, kv) = (heads * head_dim, kv_heads * head_dim);
    let products = [
        (q, hidden, layers),
        (kv, hidden, 2 * layers),
        (hidden, q, layers),
        (intermediate, hidden, 2 * layers),
        (hidden, intermediate, layers),
        (config.vocab_size.next_multiple_of(4), hidden, 1),
    ];
    let mut sum = 0.0;
    for (outputs, inputs, count) in products {
        let tensor = |name: &str, shape: &[usize]| device.tensor(format!("bench/{name}"), shape, DType::Real);
        let (mut x, mut w) = (tensor("x", &[rows, inputs])?, tensor("w", &[outputs, inputs])?);
        let mut y = tensor("y", &[rows, outputs])?;
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
