//! Kahneman-Tversky Optimization.

use super::{Metrics, Objective, Seam, StepTotals, TrainsOn, sigmoid};
use crate::kernels::{self, KTO_STATISTICS};

/// With `D = sum_t (log pi - log pi_ref)` and z the mean D of the step's mismatched pairs, at least 0: the mean of
/// `w_d (1 - sigmoid(beta (D - z)))` over right responses and `w_u (1 - sigmoid(beta (z - D)))` over wrong ones.
pub struct Kto {
    pub beta: f64,
    /// `w_d`
    pub desirable_weight: f64,
    /// `w_u`
    pub undesirable_weight: f64,
}

impl Kto {
    fn z(totals: StepTotals) -> f64 {
        totals.mismatched_log_ratio.max(0.0)
    }
}

impl Objective for Kto {
    fn uses_value(&self) -> bool {
        false
    }

    fn uses_reference(&self) -> bool {
        true
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Labelled
    }

    fn uses_mismatched(&self) -> bool {
        true
    }

    fn statistics(&self) -> usize {
        KTO_STATISTICS
    }

    fn gradients(&self, seam: Seam) {
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
            z: Self::z(seam.totals) as f32,
            desirable_weight: self.desirable_weight as f32,
            undesirable_weight: self.undesirable_weight as f32,
        });
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        let z = Self::z(totals);
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
        let kto = Kto { beta: 0.5, desirable_weight: 2.0, undesirable_weight: 3.0 };
        let totals = StepTotals { rows: 1, sequences: 1, tokens: 1, mismatched_log_ratio: -7.0 };
        // z is 0, not -7; 1 - sigmoid(0) = 0.5.
        assert_eq!(kto.metrics(&[0.0, 1.0], totals), [("loss", 1.0), ("kl", 0.0), ("rewards/chosen", 0.0)]);
        assert_eq!(kto.metrics(&[0.0, 0.0], totals), [("loss", 1.5), ("kl", 0.0), ("rewards/rejected", 0.0)]);
    }
}
