//! A whole training step: what kernels, launches and the loop make together.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::json;

use super::host::{HostWork, MedianStep, StepEnds};
use super::limits::Yardsticks;
use super::shape::{Shape, randomize};
use super::timing::median;
use crate::device::{DType, Device, Precision};
use crate::model::{Build, Policy, Storage, WeightOptions, save_policy};
use crate::objective::{Metrics, Objective, Seam, Sft, StepTotals, TrainsOn};
use crate::train::{Run, TrainConfig, TrainSettings, Watch};

/// The result of [`measure`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StepResult {
    /// The median step's.
    pub seconds: f64,
    pub tokens_per_second: f64,
    /// By [`StepModel::flops_per_weight`] x parameters x tokens.
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

const STEPS: usize = 8;

/// What a step trains.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StepModel {
    pub shape: Shape,
    /// How weights are stored.
    #[serde(flatten)]
    pub weights: WeightOptions,
    /// The rank of the adapters that are trained; 0 trains the weights.
    pub lora_r: usize,
}

impl StepModel {
    /// Operations for each weight and token: two forward, two for the input's gradient, two for the weight's.
    pub fn flops_per_weight(self) -> usize {
        if self.lora_r > 0 { 4 } else { 6 }
    }
}

/// Trains a model of random weights by `sft` with AdamW, for some steps; when `interrupt` is set, as many as there were.
///
/// # Errors
/// Where the device fails or has no room, or the temporary directory cannot be written.
pub fn measure(device: &Device, model: StepModel, interrupt: &AtomicBool) -> Result<StepResult> {
    let StepModel { shape, weights, lora_r } = model;
    let flops_per_weight = model.flops_per_weight() as f64;
    let dir = tempfile::tempdir().context("no temporary directory")?;
    let (model, data) = (dir.path().join("model"), dir.path().join("rows.jsonl"));
    let parameters = save_model(shape, &model)?;
    let (sequences, tokens) = shape.step();
    save_rows(shape, &data)?;

    let output = dir.path().join("out");
    let mut config = TrainConfig { data: Some(data), output_dir: Some(output), ..TrainConfig::default() };
    config.model.model = Some(model.display().to_string());
    config.model.weights = weights;
    config.lora.lora_r = lora_r;
    config.steps.batch_size = sequences;
    config.steps.tokens_per_micro_batch = config.steps.tokens_per_micro_batch.max(sequences * (tokens + 1));
    config.steps.max_steps = Some(STEPS);
    config.saving.save_steps = 0;
    let ends = Rc::new(RefCell::new(StepEnds::new(device)));
    let sft = Noted { sft: Sft::default(), ends: ends.clone() };
    let run = Run::open_on(TrainSettings::new(config, sft), |_| Ok(device.clone()))?;
    let mut yardsticks = Yardsticks::new(device)?;
    let mut peaks = vec![yardsticks.flops()?, yardsticks.flops()?];
    run.train(false, Watch::silent(interrupt))?;
    peaks.push(yardsticks.flops()?);

    let MedianStep { seconds, host } = ends.borrow().median();
    ensure!(seconds > 0.0, "stopped before there were two steps");
    let tokens = (sequences * tokens) as f64;
    let flops = flops_per_weight * parameters as f64 * tokens / seconds;
    let peak_flops = median(peaks);
    Ok(StepResult { seconds, tokens_per_second: tokens / seconds, flops, share: flops / peak_flops, peak_flops, host })
}

/// Writes a model of random weights; their number.
fn save_model(shape: Shape, dir: &Path) -> Result<usize> {
    let config = shape.config()?;
    let cpu = Device::cpu(Precision::F32);
    // Half the file, and as good to measure with.
    let storage = Storage::frozen(DType::Bf16);
    let mut policy = Policy::load(&Build::new(&cpu, &config, None, "policy", storage), 1)?;
    randomize(&mut policy)?;
    save_policy(&mut policy, &config, None, dir, dir)?;
    Ok(policy.parameters_mut().map(|parameter| parameter.len()).sum())
}

/// Writes the rows of a step: random responses to a prompt of a token.
fn save_rows(shape: Shape, file: &Path) -> Result<()> {
    let vocabulary = shape.config()?.vocab_size as u32;
    let (sequences, tokens) = shape.step();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut ids = |count: usize| (0..count).map(|_| rng.random_range(0..vocabulary)).collect::<Vec<_>>();
    let rows =
        (0..sequences).map(|_| json!({ "prompt_ids": ids(1), "completion_ids": ids(tokens) }).to_string() + "\n");
    Ok(std::fs::write(file, rows.collect::<String>())?)
}
