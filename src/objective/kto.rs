//! Kahneman-Tversky Optimization: with `D = sum_t (log pi - log pi_ref)` and z the mean D of the step's mismatched pairs, at
//! least 0, the mean of `w_d (1 - sigmoid(beta (D - z)))` over right responses and `w_u (1 - sigmoid(beta (z - D)))` over
//! wrong ones.

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::method::{About, MethodOptions};
use super::mismatched::Mismatched;
use super::options::{ReferenceOptions, Truncated, TruncatedOptions};
use super::range::not_negative;
use super::seam::{Metrics, Objective, Probes, Seam, StepTotals, TrainsOn};
use super::sigmoid::sigmoid;
use crate::data::Example;
use crate::kernels::{self, KTO_STATISTICS};

/// Kahneman-Tversky Optimization: rows that are right (reward above 0.5) or wrong
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kto {
    /// The coefficient of the KL term
    #[arg(long, default_value_t = 0.1)]
    pub beta: f64,
    /// The weight of right responses
    #[arg(long, default_value_t = 1.0)]
    pub desirable_weight: f64,
    /// The weight of wrong responses
    #[arg(long, default_value_t = 1.0)]
    pub undesirable_weight: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub rows: TruncatedOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub reference: ReferenceOptions,
    /// z of the step: the log-ratio that utilities are measured from
    #[arg(skip)]
    #[serde(skip)]
    pub z: f64,
}

impl MethodOptions for Kto {
    const METRICS: &'static [About] = &[
        About { metric: "loss", is: "what is minimised" },
        About { metric: "kl", is: "z: log-ratio of mismatched pairs, at least 0" },
        About { metric: "rewards/chosen", is: "implicit reward of chosen responses" },
        About { metric: "rewards/rejected", is: "implicit reward of rejected responses" },
        About { metric: "rewards/margins", is: "chosen over rejected" },
    ];
}

impl Objective for Kto {
    fn name(&self) -> &str {
        "kto"
    }

    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::try_from(self)?)
    }

    fn settle(&mut self, batch_size: usize) -> Result<()> {
        ensure!(
            batch_size > 1,
            "--batch-size is 1; kto compares the rows of a step with each other, so it must be at least 2"
        );
        not_negative("--beta", self.beta)?;
        not_negative("--desirable-weight", self.desirable_weight)?;
        not_negative("--undesirable-weight", self.undesirable_weight)
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Labelled
    }

    fn truncated(&self) -> Truncated {
        self.rows.truncated
    }

    fn reference(&self) -> Option<&ReferenceOptions> {
        Some(&self.reference)
    }

    fn check_examples(&self, examples: &[Example]) -> Result<()> {
        ensure!(
            examples.iter().any(|example| example.prompt_ids != examples[0].prompt_ids),
            "every row has the same prompt; kto holds each prompt against a response to another one, so give rows with at \
             least 2 prompts"
        );
        Ok(())
    }

    fn probes(
        &self,
        examples: &[Example],
        steps: &mut dyn Iterator<Item = Vec<usize>>,
        longest: usize,
    ) -> Option<Probes> {
        let (mismatched, examples) = Mismatched::new(examples, steps, longest);
        Some(Probes { examples, of_step: Box::new(move |step| mismatched.of(step)) })
    }

    /// A step whose rows have one prompt has no mismatched pairs: its z is 0.
    fn begin_step(&mut self, log_ratios: &[f64]) {
        let mean = log_ratios.iter().sum::<f64>() / f64::max(log_ratios.len() as f64, 1.0);
        self.z = mean.max(0.0);
    }

    fn statistics(&self) -> usize {
        KTO_STATISTICS
    }

    fn gradients(&self, seam: Seam) -> Result<()> {
        seam.device.run(kernels::Kto {
            starts: &seam.batch.response_starts,
            rollout: seam.rollout,
            logp: seam.logp,
            dlogp: seam.dlogp,
            statistics: seam.statistics,
            sequences: seam.batch.sequences as u32,
            first_sequence: seam.first_sequence as u32,
            batch_sequences: seam.totals.sequences as u32,
            beta: self.beta as f32,
            z: self.z as f32,
            desirable_weight: self.desirable_weight as f32,
            undesirable_weight: self.undesirable_weight as f32,
        });
        Ok(())
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        let z = self.z;
        let log_ratios = |right: bool| {
            let rows = statistics.chunks_exact(KTO_STATISTICS).filter(move |row| (row[1] != 0.0) == right);
            rows.map(|row| row[0])
        };
        let right = log_ratios(true).map(|d| self.desirable_weight * sigmoid(self.beta * (z - d))).sum::<f64>();
        let wrong = log_ratios(false).map(|d| self.undesirable_weight * sigmoid(self.beta * (d - z))).sum::<f64>();
        let mut metrics = vec![("loss", (right + wrong) / totals.sequences as f64), ("kl", z)];

        // A step may have responses of one kind only.
        let reward = |right| {
            let count = log_ratios(right).count();
            (count > 0).then(|| self.beta * log_ratios(right).sum::<f64>() / count as f64)
        };
        let (chosen, rejected) = (reward(true), reward(false));
        metrics.extend(chosen.map(|chosen| ("rewards/chosen", chosen)));
        metrics.extend(rejected.map(|rejected| ("rewards/rejected", rejected)));
        metrics.extend(chosen.zip(rejected).map(|(chosen, rejected)| ("rewards/margins", chosen - rejected)));
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_without_rows_has_no_metrics() {
        let mut kto = Kto { beta: 0.5, desirable_weight: 2.0, undesirable_weight: 3.0, ..Kto::default() };
        kto.begin_step(&[-7.0]);
        let totals = StepTotals { rows: 1, sequences: 1, tokens: 1 };
        // z is 0, not -7; 1 - sigmoid(0) = 0.5.
        assert_eq!(kto.metrics(&[0.0, 1.0], totals), [("loss", 1.0), ("kl", 0.0), ("rewards/chosen", 0.0)]);
        assert_eq!(kto.metrics(&[0.0, 0.0], totals), [("loss", 1.5), ("kl", 0.0), ("rewards/rejected", 0.0)]);
    }
}
