//! Kahneman-Tversky Optimization, fused: the log-ratio of a response, and the gradient of its utility.

use super::variants::{launch_reducing_rows, reducing_rows_of_four};
use crate::device::{Kernel, Real, kernel, reaches, sum_terms};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 3] = reducing_rows_of_four(include_str!("../../shaders/kto.wgsl"));

/// Numbers in a sequence's row of [`Kto::statistics`].
pub const STATISTICS: usize = 2;

kernel! {
    /// With `D = sum (logp - log pi_ref)`, `u = beta (D - z)`: right responses have `L = w_d (1 - sigmoid(u))`, wrong ones
    /// `L = w_u (1 - sigmoid(-u))`, `dlogp = -+w beta sigmoid(u) sigmoid(-u) / B`.
    pub struct Kto in "kto" of VARIANTS {
        /// `[sequences + 1]`: where each sequence starts on the axis of positions.
        index starts,
        /// `[positions, 4]`: log pi_ref, log mu, reward; a response is right where its last one is above 0.5.
        read rollout,
        /// `[positions]`: log pi of the actions.
        read logp,
        /// `[positions]`
        write dlogp,
        /// `[any, STATISTICS]`: D of each sequence, and 1 where it is right.
        write statistics,
        ;
        sequences: u32,
        /// Where this micro-batch's sequences start in `statistics`.
        first_sequence: u32,
        /// B: the sequences of the whole optimizer step.
        batch_sequences: u32,
        beta: f32,
        /// The log-ratio that utilities are measured from.
        z: f32,
        /// `w_d`
        desirable_weight: f32,
        /// `w_u`
        undesirable_weight: f32,
    }
}

impl Kernel for Kto<'_> {
    fn check(&self) {
        reaches::<Self>(self.starts, self.sequences as usize + 1);
        let positions = self.logp.len();
        reaches::<Self>(self.rollout, 4 * positions);
        reaches::<Self>(self.dlogp, positions);
        reaches::<Self>(self.statistics, (self.first_sequence as usize + self.sequences as usize) * STATISTICS);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let positions = self.logp.len() as f64;
        let cost = Cost { flops: 2.0 * positions, bytes: 24.0 * positions };
        launch_reducing_rows(&VARIANTS, traits, self.sequences as usize, 4, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (beta, z) = (T::of(self.beta.into()), T::of(self.z.into()));
        let (w_d, w_u) = (T::of(self.desirable_weight.into()), T::of(self.undesirable_weight.into()));
        let batch_sequences = T::of(self.batch_sequences.into());
        let starts = &self.starts.u32s()[..=self.sequences as usize];
        let (rollout, logp) = (self.rollout.real::<T>(), self.logp.real::<T>());
        let dlogp = self.dlogp.real_mut::<T>();
        let statistics = &mut self.statistics.real_mut::<T>()[self.first_sequence as usize * STATISTICS..];
        for (range, statistics) in starts.windows(2).zip(statistics.chunks_mut(STATISTICS)) {
            let (start, end) = (range[0] as usize, range[1] as usize);
            let [log_ratio] = sum_terms(end - start, |i| [logp[start + i] - rollout[4 * (start + i)]]);
            let is_right = rollout[4 * (end - 1) + 2] > T::of(0.5);
            let small = (-(beta * (log_ratio - z)).abs()).exp();
            let slope = beta * small / ((T::one() + small) * (T::one() + small) * batch_sequences);
            let gradient = if is_right { -w_d * slope } else { w_u * slope };
            dlogp[start..end].fill(gradient);
            statistics.copy_from_slice(&[log_ratio, if is_right { T::one() } else { T::zero() }]);
        }
    }
}
