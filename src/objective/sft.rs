//! Supervised fine-tuning: `L = -1/N sum log pi(y_t)`, N the response tokens of the step.

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::method::{About, MethodOptions};
use super::options::{Truncated, TruncatedOptions};
use super::seam::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use crate::kernels::{self, SequenceSum};

/// Supervised fine-tuning on every row's response
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sft {
    #[command(flatten)]
    #[serde(flatten)]
    pub rows: TruncatedOptions,
}

impl MethodOptions for Sft {
    const METRICS: &'static [About] = &[About { metric: "loss", is: "what is minimised" }];
}

impl Objective for Sft {
    fn name(&self) -> &str {
        "sft"
    }

    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::try_from(self)?)
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Responses
    }

    fn truncated(&self) -> Truncated {
        self.rows.truncated
    }

    fn statistics(&self) -> usize {
        1 // the sum of the sequence's log-probs
    }

    fn gradients(&self, seam: Seam) -> Result<()> {
        let (device, batch) = (seam.device, seam.batch);
        let (positions, batch_tokens) = (batch.positions as u32, seam.totals.tokens as u32);
        device.run(kernels::Sft { dlogp: seam.dlogp, positions, batch_tokens });
        device.run(SequenceSum {
            starts: &batch.response_starts,
            x: seam.logp,
            sums: seam.statistics,
            sequences: batch.sequences as u32,
            first_sequence: seam.first_sequence as u32,
        });
        Ok(())
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        vec![("loss", -statistics.iter().sum::<f64>() / totals.tokens as f64)]
    }
}
