//! Direct Reward Optimization: DQO with the whole response as one action. `L_pi = mean (R - V_1 - beta D)^2` for the policy,
//! the same for the value network; each is a constant for the other.

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::method::{About, MethodOptions};
use super::options::{ReferenceOptions, Truncated, TruncatedOptions, ValueOptions};
use super::range::{not_negative, within};
use super::seam::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use crate::kernels::{self, DRO_STATISTICS};

/// Direct Reward Optimization: rows with a reward each
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dro {
    /// The coefficient of the KL term
    #[arg(long, default_value_t = 0.03)]
    pub beta: f64,
    /// The factor of process rewards
    #[arg(long, default_value_t = 1.0)]
    pub process_scale: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub rows: TruncatedOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub value_network: ValueOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub reference: ReferenceOptions,
}

impl MethodOptions for Dro {
    const METRICS: &'static [About] = &[
        About { metric: "loss", is: "what is minimised" },
        About { metric: "policy_loss", is: "of the policy" },
        About { metric: "value_loss", is: "of the value network" },
        About { metric: "log_ratio", is: "to the reference, of a response" },
        About { metric: "kl", is: "from the reference, of a response, estimated" },
        About { metric: "rewards/mean", is: "mean reward of the step's responses" },
        About { metric: "values/mean", is: "mean V before the responses" },
        About { metric: "values/explained_variance", is: "share of the returns' variance explained by V" },
    ];
}

impl Objective for Dro {
    fn name(&self) -> &str {
        "dro"
    }

    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::try_from(self)?)
    }

    fn settle(&mut self, _: usize) -> Result<()> {
        not_negative("--beta", self.beta)?;
        within("--process-scale", self.process_scale, self.process_scale.is_finite())
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Rewarded { process_scale: self.process_scale }
    }

    fn truncated(&self) -> Truncated {
        self.rows.truncated
    }

    fn value_network(&self) -> Option<&ValueOptions> {
        Some(&self.value_network)
    }

    fn reference(&self) -> Option<&ReferenceOptions> {
        Some(&self.reference)
    }

    fn statistics(&self) -> usize {
        DRO_STATISTICS
    }

    fn gradients(&self, seam: Seam) -> Result<()> {
        let value = seam.value.expect("DRO trains a value network");
        seam.device.run(kernels::Dro {
            starts: &seam.batch.response_starts,
            rollout: seam.rollout,
            bootstrap: value.bootstrap,
            logp: seam.logp,
            value: value.value,
            dlogp: seam.dlogp,
            dvalue: value.dvalue,
            statistics: seam.statistics,
            sequences: seam.batch.sequences as u32,
            first_sequence: seam.first_sequence as u32,
            batch_sequences: seam.totals.sequences as u32,
            beta: self.beta as f32,
        });
        Ok(())
    }

    fn metrics(&self, statistics: &[f64], _: StepTotals) -> Metrics {
        let rows = || statistics.chunks_exact(DRO_STATISTICS);
        let count = rows().count() as f64;
        let mean = |of: &dyn Fn(&[f64]) -> f64| rows().map(of).sum::<f64>() / count;
        let variance = |of: &dyn Fn(&[f64]) -> f64| {
            let center = mean(of);
            mean(&|row| (of(row) - center).powi(2))
        };
        // [D, reward, V_1, delta, the KL's terms]; the target of V_1 is delta + V_1.
        let loss = mean(&|row| row[3] * row[3]);
        let mut metrics = vec![
            ("loss", 2.0 * loss),
            ("policy_loss", loss),
            ("value_loss", loss),
            ("log_ratio", mean(&|row| row[0])),
            ("kl", mean(&|row| row[4])),
            ("rewards/mean", mean(&|row| row[1])),
            ("values/mean", mean(&|row| row[2])),
        ];
        let of_targets = variance(&|row| row[2] + row[3]);
        if of_targets > 0.0 {
            metrics.push(("values/explained_variance", 1.0 - variance(&|row| row[3]) / of_targets));
        }
        metrics
    }
}
