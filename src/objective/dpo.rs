//! Direct Preference Optimization.

use super::{Metrics, Objective, Seam, StepTotals, TrainsOn, log_sigmoid};
use crate::kernels;

/// `L = mean over pairs of -log sigmoid(beta (D_chosen - D_rejected))`, `D = sum_t (log pi - log pi_ref)`.
pub struct Dpo {
    pub beta: f64,
}

impl Objective for Dpo {
    fn uses_value(&self) -> bool {
        false
    }

    fn uses_reference(&self) -> bool {
        true
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Pairs
    }

    fn statistics(&self) -> usize {
        1 // D
    }

    fn gradients(&self, seam: Seam) {
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
