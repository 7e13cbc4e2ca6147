//! Proximal Policy Optimization, fused: both clipped losses, both gradients and the statistics of every sequence in one
//! dispatch.

use super::lambda_return::REVERSE_SCAN;
use super::variants::{launch_each, only, shared};
use crate::device::{Kernel, Real, kernel, reaches, sum_terms};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/ppo.wgsl"), &[shared::GRID, REVERSE_SCAN]);

/// Numbers in a sequence's row of [`Ppo::statistics`].
pub const STATISTICS: usize = 12;

/// The largest exponent of a ratio: exp overflows in f32 above 88.
pub(super) const MAX_LOG_RATIO: f64 = 20.0;

kernel! {
    /// With `ratio = exp(logp - log pi_old)`: `p = max(-A ratio, -A clip(ratio, 1 - e, 1 + e))`,
    /// `q = max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2)`, `dlogp = -A ratio / N` and `dvalue = (V - R) / N`, each 0
    /// where the clipped term is the larger one.
    pub struct Ppo in "ppo" of VARIANTS {
        /// `[sequences + 1]`: where each sequence starts on the axis of positions.
        index starts,
        /// `[positions, 4]`: log pi_old, advantage A, return R, V_old.
        read rollout,
        /// `[positions]`: log pi of the actions.
        read logp,
        /// `[positions]`: V of the states before them.
        read value,
        /// `[positions]`
        write dlogp,
        /// `[positions]`
        write dvalue,
        /// `[any, STATISTICS]`: `sum p, sum q, sum (logp - log pi_old)^2 / 2, number of clipped p, number of clipped q,
        /// sum V, sum R, sum R^2, sum (R - V), sum (R - V)^2, sum ratio, 0` of each sequence.
        write statistics,
        ;
        sequences: u32,
        /// Where this micro-batch's sequences start in `statistics`.
        first_sequence: u32,
        /// N: the response tokens of the whole optimizer step.
        batch_tokens: u32,
        /// e: how far a ratio may be from 1.
        clip_range: f32,
        /// c: how far V may be from V_old.
        value_clip_range: f32,
    }
}

impl Kernel for Ppo<'_> {
    fn check(&self) {
        reaches::<Self>(self.starts, self.sequences as usize + 1);
        let positions = self.logp.len();
        reaches::<Self>(self.rollout, 4 * positions);
        for tensor in [self.value, self.dlogp, self.dvalue] {
            reaches::<Self>(tensor, positions);
        }
        reaches::<Self>(self.statistics, (self.first_sequence as usize + self.sequences as usize) * STATISTICS);
    }

    fn launch(&self, _: Traits) -> Launch {
        let positions = self.logp.len() as f64;
        launch_each(&VARIANTS[0], self.sequences as usize, Cost { flops: 30.0 * positions, bytes: 32.0 * positions })
    }

    fn twin<T: Real>(&mut self) {
        let (clip_range, value_clip_range) = (T::of(self.clip_range.into()), T::of(self.value_clip_range.into()));
        let scale = T::one() / T::of(self.batch_tokens.into());
        let starts = &self.starts.u32s()[..=self.sequences as usize];
        let (rollout, _) = self.rollout.real::<T>().as_chunks::<4>();
        let (logp, value) = (self.logp.real::<T>(), self.value.real::<T>());
        let (dlogp, dvalue) = (self.dlogp.real_mut::<T>(), self.dvalue.real_mut::<T>());
        let statistics = &mut self.statistics.real_mut::<T>()[self.first_sequence as usize * STATISTICS..];
        let clamp = |x: T, low: T, high: T| x.max(low).min(high);
        let count = |is: bool| if is { T::one() } else { T::zero() };

        // One token: what its sequence sums up, and its two gradients.
        let token = |t: usize| {
            let [logp_old, advantage, target, value_old] = rollout[t];
            let log_ratio = logp[t] - logp_old;
            let ratio = log_ratio.min(T::of(MAX_LOG_RATIO)).exp();
            let p = -advantage * ratio;
            let p_clipped = -advantage * clamp(ratio, T::one() - clip_range, T::one() + clip_range);
            let is_clipped = p_clipped > p;

            let v = value[t];
            let error = v - target;
            let error_clipped = clamp(v, value_old - value_clip_range, value_old + value_clip_range) - target;
            let is_value_clipped = error_clipped * error_clipped > error * error;
            let q = if is_value_clipped { error_clipped * error_clipped } else { error * error };
            let sums = [
                if is_clipped { p_clipped } else { p },
                q,
                T::of(0.5) * log_ratio * log_ratio,
                count(is_clipped),
                count(is_value_clipped),
                v,
                target,
                target * target,
                -error,
                error * error,
                ratio,
                T::zero(),
            ];
            let gradients = (
                if is_clipped { T::zero() } else { scale * p },
                if is_value_clipped { T::zero() } else { scale * error },
            );
            (sums, gradients)
        };
        for (range, statistics) in starts.windows(2).zip(statistics.chunks_mut(STATISTICS)) {
            let positions = range[0] as usize..range[1] as usize;
            for t in positions.clone() {
                (dlogp[t], dvalue[t]) = token(t).1;
            }
            let sums: [T; STATISTICS] = sum_terms(positions.len(), |i| token(positions.start + i).0);
            statistics.copy_from_slice(&sums);
        }
    }
}
