//! A whole training step of a small Llama: what kernels, launches and the loop make together.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::json;

use super::host::{HostWork, MedianStep, StepEnds};
use super::limits::Yardsticks;
use super::timing::median;
use crate::device::Device;
use crate::model::{Build, ModelConfig, Policy, Storage, save_policy};
use crate::objective::{Metrics, Objective, Seam, Sft, StepTotals, TrainsOn};
use crate::train::{Run, TrainConfig, TrainSettings, Watch};

/// The result of [`measure`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StepResult {
    /// The median step's.
    pub seconds: f64,
    pub tokens_per_second: f64,
    /// By 6 x parameters x tokens.
    pub flops: f64,
    /// Of the peak of fused multiply-adds, 0 to 1, measured before and after the steps.
    pub share: f64,
    /// That peak.
    pub peak_flops: f64,
    /// What the host did for it, where the device is a GPU.
    pub host: Option<HostWork>,
}

/// `sft`, which notes when a step's results are there: the trainer asks it for each step's metrics once.
struct Noted {
    sft: Sft,
    ends: Rc<RefCell<StepEnds>>,
}

impl Objective for Noted {
    fn name(&self) -> &str {
        self.sft.name()
    }

    fn trains_on(&self) -> TrainsOn {
        self.sft.trains_on()
    }

    fn statistics(&self) -> usize {
        self.sft.statistics()
    }

    fn gradients(&self, seam: Seam) -> Result<()> {
        self.sft.gradients(seam)
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        self.ends.borrow_mut().note();
        self.sft.metrics(statistics, totals)
    }
}

const SEQUENCES: usize = 8;
const TOKENS: usize = 128;
const STEPS: usize = 8;

/// Trains a Llama of hidden 256, 4 layers, 4 heads, intermediate 768 and a tied vocabulary of 4096 on 8 x 128 tokens by
/// `sft` with AdamW, for some steps.
///
/// # Errors
/// Where the device fails or the temporary directory cannot be written.
pub fn measure(device: &Device, yardsticks: &mut Yardsticks) -> Result<StepResult> {
    let dir = tempfile::tempdir().context("no temporary directory")?;
    let (model, data) = (dir.path().join("model"), dir.path().join("rows.jsonl"));
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 768,
        "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 4096, "tie_word_embeddings": true,
        "hidden_act": "silu", "rms_norm_eps": 1e-5,
    });
    let config = ModelConfig::of_json(config.as_object().cloned().unwrap_or_default())?;
    let cpu = Device::cpu(crate::device::Precision::F32);
    let storage = Storage { dtype: crate::device::DType::Real, trainable: false };
    let mut policy = Policy::load(&Build::new(&cpu, &config, None, "policy", storage), TOKENS)?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut parameters = 0;
    for parameter in policy.parameters_mut() {
        parameters += parameter.len();
        let scale = if parameter.rows() == 1 { 0.0 } else { 0.05 };
        for shard in parameter.shards_mut() {
            let count = shard.weight.len();
            let values: Vec<f64> =
                (0..count).map(|_| 1.0 - scale / 0.05 + scale * rng.random_range(-1.0..1.0)).collect();
            shard.parts_mut().0.write(0, values.into_iter())?;
        }
    }
    save_policy(&mut policy, &config, dir.path(), &model)?;

    let mut ids = |count: usize| (0..count).map(|_| rng.random_range(0..4096u32)).collect::<Vec<_>>();
    let rows =
        (0..SEQUENCES).map(|_| json!({ "prompt_ids": ids(1), "completion_ids": ids(TOKENS) }).to_string() + "\n");
    std::fs::write(&data, rows.collect::<String>())?;
    let output = dir.path().join("out");
    let mut config = TrainConfig { data: Some(data), output_dir: Some(output), ..TrainConfig::default() };
    config.model.model = Some(model.display().to_string());
    config.steps.batch_size = SEQUENCES;
    config.steps.max_steps = Some(STEPS);
    config.saving.save_steps = 0;
    let ends = Rc::new(RefCell::new(StepEnds::new(device)));
    let sft = Noted { sft: Sft::default(), ends: ends.clone() };
    let run = Run::open_on(TrainSettings::new(config, sft), |_| Ok(device.clone()))?;
    let mut peaks = vec![yardsticks.flops()?, yardsticks.flops()?];
    run.train(false, Watch::silent(&AtomicBool::new(false)))?;
    peaks.push(yardsticks.flops()?);

    let MedianStep { seconds, host } = ends.borrow().median();
    let tokens = (SEQUENCES * TOKENS) as f64;
    let flops = 6.0 * parameters as f64 * tokens / seconds;
    let peak_flops = median(peaks);
    Ok(StepResult { seconds, tokens_per_second: tokens / seconds, flops, share: flops / peak_flops, peak_flops, host })
}
