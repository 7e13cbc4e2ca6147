//! Direct Preference Optimization, fused: the log-ratios of a pair's two responses and the gradients.

use super::variants::{launch_reducing_rows, reducing_rows_of_four};
use crate::device::{Kernel, Real, kernel, reaches, sum_terms};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 3] = reducing_rows_of_four(include_str!("../../shaders/dpo.wgsl"));

kernel! {
    /// With `D = sum (logp - log pi_ref)`, `margin = beta (D_chosen - D_rejected)`, `L = -log sigmoid(margin)`:
    /// `dlogp = -+beta sigmoid(-margin) / B` over the chosen and the rejected response.
    pub struct Dpo in "dpo" of VARIANTS {
        /// `[2 pairs + 1]`: where each sequence starts on the axis of positions; the chosen one of a pair is the first.
        index starts,
        /// `[positions, 4]`: log pi_ref, and three numbers that are not read.
        read rollout,
        /// `[positions]`: log pi of the actions.
        read logp,
        /// `[positions]`
        write dlogp,
        /// `[any]`: D of each sequence.
        write statistics,
        ;
        pairs: u32,
        /// Where this micro-batch's sequences start in `statistics`.
        first_sequence: u32,
        /// B: the pairs of the whole optimizer step.
        batch_pairs: u32,
        beta: f32,
    }
}

impl Kernel for Dpo<'_> {
    fn check(&self) {
        reaches::<Self>(self.starts, 2 * self.pairs as usize + 1);
        let positions = self.logp.len();
        reaches::<Self>(self.rollout, 4 * positions);
        reaches::<Self>(self.dlogp, positions);
        reaches::<Self>(self.statistics, (self.first_sequence + 2 * self.pairs) as usize);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let positions = self.logp.len() as f64;
        let cost = Cost { flops: 2.0 * positions, bytes: 24.0 * positions };
        launch_reducing_rows(&VARIANTS, traits, self.pairs as usize, 4, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (beta, batch_pairs) = (T::of(self.beta.into()), T::of(self.batch_pairs.into()));
        let starts = &self.starts.u32s()[..=2 * self.pairs as usize];
        let (rollout, logp) = (self.rollout.real::<T>(), self.logp.real::<T>());
        let dlogp = self.dlogp.real_mut::<T>();
        let statistics = &mut self.statistics.real_mut::<T>()[self.first_sequence as usize..];
        for (pair, statistics) in statistics.chunks_mut(2).enumerate().take(self.pairs as usize) {
            let [start, middle, end] = [0, 1, 2].map(|i| starts[2 * pair + i] as usize);
            let log_ratio = |start: usize, end: usize| -> T {
                let [sum] = sum_terms(end - start, |i| [logp[start + i] - rollout[4 * (start + i)]]);
                sum
            };
            let (chosen, rejected) = (log_ratio(start, middle), log_ratio(middle, end));
            let margin = beta * (chosen - rejected);
            let small = (-margin.abs()).exp();
            let sigmoid = if margin > T::zero() { small } else { T::one() } / (T::one() + small); // of -margin
            let slope = beta * sigmoid / batch_pairs;
            dlogp[start..middle].fill(-slope);
            dlogp[middle..end].fill(slope);
            statistics.copy_from_slice(&[chosen, rejected]);
        }
    }
}
