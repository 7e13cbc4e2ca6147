//! Group Relative Policy Optimization, fused: the clipped loss, the KL term, their gradient and the statistics of every sequence
//! in one dispatch.

use super::kl_term::{KL_TERM, MAX_KL_RATIO, kl_term};
use super::lambda_return::REVERSE_SCAN;
use super::ppo::MAX_LOG_RATIO;
use super::variants::{launch_each, only, shared};
use crate::device::{Kernel, Real, kernel, reaches, sum_terms};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/grpo.wgsl"), &[shared::GRID, REVERSE_SCAN, KL_TERM]);

/// Numbers in a sequence's row of [`Grpo::statistics`].
pub const STATISTICS: usize = 8;

kernel! {
    /// With `ratio = exp(logp - log pi_old)`, `x = log pi_ref - logp`, n the tokens of a sequence:
    /// `p = max(-A ratio, -A clip(ratio, 1 - e, 1 + e))`, `L = mean over sequences of the mean of p + beta kl_term(x)`,
    /// `dlogp = (-A ratio + beta (1 - e^x)) / (B n)`, the first term 0 where the clipped one is the larger one.
    pub struct Grpo in "grpo" of VARIANTS {
        /// `[sequences + 1]`: where each sequence starts on the axis of positions.
        index starts,
        /// `[positions, 4]`: log pi_ref, log pi_old, reward, and the response's advantage A.
        read rollout,
        /// `[positions]`: log pi of the actions.
        read logp,
        /// `[positions]`
        write dlogp,
        /// `[any, STATISTICS]`: of each sequence, means over its tokens of `p, kl_term(x), clipped p, ratio`; then
        /// `sum (logp - log pi_ref), sum reward, A, mean (logp - log pi_old)^2 / 2`.
        write statistics,
        ;
        sequences: u32,
        /// Where this micro-batch's sequences start in `statistics`.
        first_sequence: u32,
        /// B: the sequences of the whole optimizer step.
        batch_sequences: u32,
        beta: f32,
        /// e: how far a ratio may be from 1.
        clip_range: f32,
    }
}

impl Kernel for Grpo<'_> {
    fn check(&self) {
        reaches::<Self>(self.starts, self.sequences as usize + 1);
        let positions = self.logp.len();
        reaches::<Self>(self.rollout, 4 * positions);
        reaches::<Self>(self.dlogp, positions);
        reaches::<Self>(self.statistics, (self.first_sequence as usize + self.sequences as usize) * STATISTICS);
    }

    fn launch(&self, _: Traits) -> Launch {
        let positions = self.logp.len() as f64;
        launch_each(&VARIANTS[0], self.sequences as usize, Cost { flops: 30.0 * positions, bytes: 24.0 * positions })
    }

    fn twin<T: Real>(&mut self) {
        let (beta, clip_range) = (T::of(self.beta.into()), T::of(self.clip_range.into()));
        let starts = &self.starts.u32s()[..=self.sequences as usize];
        let (rollout, _) = self.rollout.real::<T>().as_chunks::<4>();
        let logp = self.logp.real::<T>();
        let dlogp = self.dlogp.real_mut::<T>();
        let statistics = &mut self.statistics.real_mut::<T>()[self.first_sequence as usize * STATISTICS..];

        // One token: what its sequence sums up, and its gradient before it is scaled.
        let token = |t: usize| {
            let [logp_ref, logp_old, reward, advantage] = rollout[t];
            let log_ratio = logp[t] - logp_old;
            let ratio = log_ratio.min(T::of(MAX_LOG_RATIO)).exp();
            let p = -advantage * ratio;
            let p_clipped = -advantage * ratio.max(T::one() - clip_range).min(T::one() + clip_range);
            let is_clipped = p_clipped > p;
            let x = logp_ref - logp[t];
            let clipped = if is_clipped { T::one() } else { T::zero() };
            let half_square = T::of(0.5) * log_ratio * log_ratio;
            let sums = [if is_clipped { p_clipped } else { p }, kl_term(x), clipped, ratio, -x, reward, half_square];
            let of_kl = beta * (T::one() - x.min(T::of(MAX_KL_RATIO)).exp());
            (sums, if is_clipped { T::zero() } else { p } + of_kl)
        };
        for (range, statistics) in starts.windows(2).zip(statistics.chunks_mut(STATISTICS)) {
            let (start, end) = (range[0] as usize, range[1] as usize);
            let count = T::of((end - start) as f64);
            let scale = T::one() / (T::of(self.batch_sequences.into()) * count);
            for (i, dlogp) in dlogp[start..end].iter_mut().enumerate() {
                *dlogp = scale * token(start + i).1;
            }
            let [p, kl, clipped, ratio, log_ratio, reward, half_square] =
                sum_terms(end - start, |i| token(start + i).0);
            let means = [p, kl, clipped, ratio].map(|sum| sum / count);
            statistics[..4].copy_from_slice(&means);
            statistics[4..].copy_from_slice(&[log_ratio, reward, rollout[start][3], half_square / count]);
        }
    }
}
