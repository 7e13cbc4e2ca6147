//! A*-PO's second stage, fused: the log-ratio of a response, its residual and the gradient.

use super::kl_term::{KL_TERM, kl_term};
use super::lambda_return::REVERSE_SCAN;
use super::variants::{launch_each, only, shared};
use crate::device::{Kernel, Real, kernel, reaches, sum_terms};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/a2po.wgsl"), &[shared::GRID, REVERSE_SCAN, KL_TERM]);

/// Numbers in a sequence's row of [`A2po::statistics`].
pub const STATISTICS: usize = 8;

kernel! {
    /// With `D = sum (logp - log pi_ref)`, `delta = A - beta D`: `dlogp = -2 beta delta / B`.
    pub struct A2po in "a2po" of VARIANTS {
        /// `[sequences + 1]`: where each sequence starts on the axis of positions.
        index starts,
        /// `[positions, 4]`: log pi_ref, log mu, reward, and the response's A = R - V*.
        read rollout,
        /// `[positions]`: log pi of the actions.
        read logp,
        /// `[positions]`
        write dlogp,
        /// `[any, STATISTICS]`: `D, sum reward, A, delta, sum kl_term(logp - log pi_ref), 0, 0, 0` of each sequence.
        write statistics,
        ;
        sequences: u32,
        /// Where this micro-batch's sequences start in `statistics`.
        first_sequence: u32,
        /// B: the sequences of the whole optimizer step.
        batch_sequences: u32,
        beta: f32,
    }
}

impl Kernel for A2po<'_> {
    fn check(&self) {
        reaches::<Self>(self.starts, self.sequences as usize + 1);
        let positions = self.logp.len();
        reaches::<Self>(self.rollout, 4 * positions);
        reaches::<Self>(self.dlogp, positions);
        reaches::<Self>(self.statistics, (self.first_sequence as usize + self.sequences as usize) * STATISTICS);
    }

    fn launch(&self, _: Traits) -> Launch {
        let positions = self.logp.len() as f64;
        launch_each(&VARIANTS[0], self.sequences as usize, Cost { flops: 10.0 * positions, bytes: 24.0 * positions })
    }

    fn twin<T: Real>(&mut self) {
        let (beta, batch_sequences) = (T::of(self.beta.into()), T::of(self.batch_sequences.into()));
        let starts = &self.starts.u32s()[..=self.sequences as usize];
        let (rollout, _) = self.rollout.real::<T>().as_chunks::<4>();
        let logp = self.logp.real::<T>();
        let dlogp = self.dlogp.real_mut::<T>();
        let statistics = &mut self.statistics.real_mut::<T>()[self.first_sequence as usize * STATISTICS..];
        for (range, statistics) in starts.windows(2).zip(statistics.chunks_mut(STATISTICS)) {
            let (start, end) = (range[0] as usize, range[1] as usize);
            let [log_ratio, reward, kl] = sum_terms(end - start, |i| {
                let [logp_ref, _, reward, _] = rollout[start + i];
                let x = logp[start + i] - logp_ref;
                [x, reward, kl_term(x)]
            });
            let advantage = rollout[start][3];
            let delta = advantage - beta * log_ratio;
            dlogp[start..end].fill(-T::of(2.0) * beta * delta / batch_sequences);
            let zero = T::zero();
            statistics.copy_from_slice(&[log_ratio, reward, advantage, delta, kl, zero, zero, zero]);
        }
    }
}
