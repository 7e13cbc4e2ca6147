//! An objective of one's own, trained by the library: reward-weighted regression on rollouts of the demo's model.
//!
//!     cargo run --release --example own_objective [DIR]

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use dqo_wgpu::data::Columns;
use dqo_wgpu::grade::Task;
use dqo_wgpu::model::ModelOptions;
use dqo_wgpu::objective::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use dqo_wgpu::ranks::Ranks;
use dqo_wgpu::sample::{PolicyOptions, SampleConfig, SamplingSettings, sample};
use dqo_wgpu::train::{Outcome, Run, TrainConfig, TrainSettings, Watch};

/// `L = -1/N sum_b R_b sum_t log pi(y_t)`: R_b the reward of a response, N the response tokens of the step.
struct RewardWeighted;

impl Objective for RewardWeighted {
    fn name(&self) -> &str {
        "reward_weighted"
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Rewarded { process_scale: 0.0 }
    }

    fn statistics(&self) -> usize {
        2 // R_b and sum_t log pi
    }

    /// On the host, which any device serves; a kernel would spare the way there (see the example `own_kernel`).
    fn gradients(&self, seam: Seam) -> Result<()> {
        let Seam { batch, rollout, logp, dlogp, statistics, first_sequence, totals, .. } = seam;
        let starts = batch.response_starts.read(batch.sequences + 1)?;
        let (rollout, logp) = (rollout.read(4 * batch.positions)?, logp.read(batch.positions)?);
        for (sequence, range) in starts.windows(2).enumerate() {
            let (start, end) = (range[0] as usize, range[1] as usize);
            let reward = rollout[4 * (end - 1) + 2];
            let gradient = -reward / totals.tokens as f64;
            dlogp.write(start, vec![gradient; end - start].into_iter())?;
            let sum = logp[start..end].iter().sum::<f64>();
            statistics.write(2 * (first_sequence + sequence), [reward, sum].into_iter())?;
        }
        Ok(())
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        let rows = || statistics.chunks_exact(2);
        vec![
            ("loss", -rows().map(|row| row[0] * row[1]).sum::<f64>() / totals.tokens as f64),
            ("rewards/mean", rows().map(|row| row[0]).sum::<f64>() / totals.sequences as f64),
        ]
    }
}

fn main() -> Result<()> {
    let dir = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("own_objective"), PathBuf::from);
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let model = ModelOptions { model: Some(demo.join("model").display().to_string()), ..ModelOptions::default() };
    let stop = AtomicBool::new(false);

    let rollouts = dir.join("rollouts.jsonl");
    let sampling = SampleConfig {
        policy: PolicyOptions { model: model.clone(), seed: 1, batch_size: 64 },
        task: Task::Gsm8k,
        data: Some(demo.join("train.jsonl")),
        columns: Columns::default(),
        output: Some(rollouts.clone()),
        num_samples: 4,
        max_problems: Some(32),
        sampling: SamplingSettings::whole_distribution(48),
    };
    sample(&sampling, true, &Ranks::alone(), &stop)?;

    let output = dir.join("run");
    let mut config =
        TrainConfig { model, data: Some(rollouts), output_dir: Some(output.clone()), ..TrainConfig::default() };
    config.steps.batch_size = 32;
    config.steps.num_train_epochs = 4;
    config.optimizer.learning_rate = 1e-4;
    let resume = output.exists();
    let run = Run::open(TrainSettings::new(config, RewardWeighted))?;
    if let Outcome::Finished(result) = run.train(resume, Watch::on_stderr(&stop))? {
        println!("{}", result.display());
    }
    Ok(())
}
