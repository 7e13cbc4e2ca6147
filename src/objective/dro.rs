//! Direct Reward Optimization: DQO with the whole response as one action.

use super::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use crate::kernels::{self, DRO_STATISTICS};

/// `L_pi = mean (R - V_1 - beta D)^2` for the policy, the same for the value network; each is a constant for the other.
pub struct Dro {
    /// The coefficient of the KL term.
    pub beta: f64,
}

impl Objective for Dro {
    fn uses_value(&self) -> bool {
        true
    }

    fn uses_reference(&self) -> bool {
        true
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Rewarded
    }

    fn statistics(&self) -> usize {
        DRO_STATISTICS
    }

    fn gradients(&self, seam: Seam) {
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
    }

    fn metrics(&self, statistics: &[f64], _: StepTotals) -> Metrics {
        let rows = || statistics.chunks_exact(DRO_STATISTICS);
        let count = rows().count() as f64;
        let mean = |of: &dyn Fn(&[f64]) -> f64| rows().map(of).sum::<f64>() / count;
        let variance = |of: &dyn Fn(&[f64]) -> f64| {
            let center = mean(of);
            mean(&|row| (of(row) - center).powi(2))
        };
        // [D, reward, V_1, delta]; the target of V_1 is delta + V_1.
        let loss = mean(&|row| row[3] * row[3]);
        let mut metrics = vec![
            ("loss", 2.0 * loss),
            ("policy_loss", loss),
            ("value_loss", loss),
            ("kl", mean(&|row| row[0])),
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
