//! Direct Preference Optimization: `L = mean over pairs of -log sigmoid(beta (D_chosen - D_rejected))`,
//! `D = sum_t (log pi - log pi_ref)`.

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::method::{About, MethodOptions};
use super::options::{ReferenceOptions, Truncated, TruncatedOptions};
use super::range::{MOST, count, not_negative};
use super::seam::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use super::sigmoid::log_sigmoid;
use crate::kernels;

/// Direct Preference Optimization: pairs, given or made from rows with a reward each
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dpo {
    /// The coefficient of the KL term
    #[arg(long, default_value_t = 0.1)]
    pub beta: f64,
    /// Pairs that are made of a prompt's rollouts at most, drawn by the seed
    #[arg(long, default_value_t = 12)]
    pub max_pairs_per_prompt: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub rows: TruncatedOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub reference: ReferenceOptions,
}

impl MethodOptions for Dpo {
    const METRICS: &'static [About] = &[
        About { metric: "loss", is: "what is minimised" },
        About { metric: "rewards/chosen", is: "implicit reward of chosen responses" },
        About { metric: "rewards/rejected", is: "implicit reward of rejected responses" },
        About { metric: "rewards/margins", is: "chosen over rejected" },
        About { metric: "rewards/accuracies", is: "share of pairs ordered rightly" },
    ];
}

impl Objective for Dpo {
    fn name(&self) -> &str {
        "dpo"
    }

    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::try_from(self)?)
    }

    fn settle(&mut self, _: usize) -> Result<()> {
        not_negative("--beta", self.beta)?;
        count("--max-pairs-per-prompt", self.max_pairs_per_prompt, MOST)
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Pairs { max_per_prompt: self.max_pairs_per_prompt }
    }

    fn truncated(&self) -> Truncated {
        self.rows.truncated
    }

    fn reference(&self) -> Option<&ReferenceOptions> {
        Some(&self.reference)
    }

    fn statistics(&self) -> usize {
        1 // D
    }

    fn gradients(&self, seam: Seam) -> Result<()> {
        seam.device.run(kernels::Dpo {
            starts: &seam.batch.response_starts,
            rollout: seam.rollout,
            logp: seam.logp,
            dlogp: seam.dlogp,
            statistics: seam.statistics,
            pairs: seam.batch.sequences as u32 / 2,
            first_sequence: seam.first_sequence as u32,
            batch_pairs: seam.totals.rows as u32,
            beta: self.beta as f32,
        });
        Ok(())
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        let mean = |of: &dyn Fn(f64, f64) -> f64| {
            let pairs = statistics.chunks_exact(2).map(|pair| of(self.beta * pair[0], self.beta * pair[1]));
            pairs.sum::<f64>() / totals.rows as f64
        };
        vec![
            ("loss", mean(&|chosen, rejected| -log_sigmoid(chosen - rejected))),
            ("rewards/chosen", mean(&|chosen, _| chosen)),
            ("rewards/rejected", mean(&|_, rejected| rejected)),
            ("rewards/margins", mean(&|chosen, rejected| chosen - rejected)),
            ("rewards/accuracies", mean(&|chosen, rejected| f64::from(u8::from(chosen > rejected)))),
        ]
    }
}
