//! Supervised fine-tuning, and rejection sampling, which is the same over the right responses: `L = -1/N sum log pi(y_t)`, N the response tokens of the step.

use super::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use crate::kernels::{self, SequenceSum};

/// The mean negative log-prob of the responses' tokens.
pub struct Sft {
    /// Over the right responses alone: rejection sampling.
    pub right_only: bool,
}

impl Objective for Sft {
    fn uses_value(&self) -> bool {
        false
    }

    fn uses_reference(&self) -> bool {
        false
    }

    fn trains_on(&self) -> TrainsOn {
        if self.right_only { TrainsOn::RightResponses } else { TrainsOn::Responses }
    }

    fn statistics(&self) -> usize {
        1 // the sum of the sequence's log-probs
    }

    fn gradients(&self, seam: Seam) {
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
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        vec![("loss", -statistics.iter().sum::<f64>() / totals.tokens as f64)]
    }
}
