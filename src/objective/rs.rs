//! Rejection sampling: supervised fine-tuning on the right responses alone.

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::method::{About, MethodOptions};
use super::options::Truncated;
use super::seam::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use super::sft::Sft;

/// Rejection sampling: supervised fine-tuning on the rows with a reward above 0.5
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rs {
    #[command(flatten)]
    #[serde(flatten)]
    pub sft: Sft,
}

impl MethodOptions for Rs {
    const METRICS: &'static [About] = Sft::METRICS;
}

impl Objective for Rs {
    fn name(&self) -> &str {
        "rs"
    }

    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::try_from(self)?)
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::RightResponses
    }

    fn truncated(&self) -> Truncated {
        self.sft.truncated()
    }

    fn statistics(&self) -> usize {
        self.sft.statistics()
    }

    fn gradients(&self, seam: Seam) -> Result<()> {
        self.sft.gradients(seam)
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        self.sft.metrics(statistics, totals)
    }
}
