//! Direct Q-function Optimization, fused: importance weight, lambda-return, both residuals, both gradients and the
//! statistics of every sequence in one dispatch (section 3 of the paper).

use super::kl_term::{KL_TERM, kl_term};
use super::lambda_return::{LANE_MAP, REVERSE_SCAN, Return, Weights, for_each_return};
use super::variants::{launch_each, only, shared};
use crate::device::{Kernel, Real, kernel, reaches, sum_terms};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] =
    only(include_str!("../../shaders/dqo.wgsl"), &[shared::GRID, REVERSE_SCAN, LANE_MAP, KL_TERM]);

/// Numbers in a sequence's row of [`Dqo::statistics`].
pub const STATISTICS: usize = 12;

kernel! {
    /// With `k = beta (log pi_ref - logp)`, `G` the lambda-return of `reward + k`, `w = exp(min(1, sum (logp - log mu)))`:
    /// `e = beta (logp - log pi_ref) - (reward + G' - V)`, `f = G - V`, `dlogp = 2 w beta e / B`, `dvalue = -2 w f / B`.
    pub struct Dqo in "dqo" of VARIANTS {
        /// `[sequences + 1]`: where each sequence starts on the axis of positions.
        index starts,
        /// `[positions, 4]`: log pi_ref, log mu, reward, and 1 where the response goes on after its last action.
        read rollout,
        /// `[sequences]`: V of the state after the last action, taken for 0 where the response does not go on.
        read bootstrap,
        /// `[positions]`: log pi of the actions.
        read logp,
        /// `[positions]`: V of the states before them.
        read value,
        /// `[positions]`
        write dlogp,
        /// `[positions]`
        write dvalue,
        /// `[any, STATISTICS]`: `w, sum(logp - log mu), sum(logp - log pi_ref), sum reward, sum e^2, sum f^2, sum f,
        /// sum V, sum G, sum G^2, n, sum kl_term(logp - log pi_ref)` of each sequence.
        write statistics,
        ;
        sequences: u32,
        /// Where this micro-batch's sequences start in `statistics`.
        first_sequence: u32,
        /// B: the sequences of the whole optimizer step.
        batch_sequences: u32,
        beta: f32,
        lambda: f32,
        /// 1: the policy's loss is weighted by w.
        policy_is: u32,
        /// 1: the value's loss is weighted by w.
        value_is: u32,
        /// 1: the tail of eq. 3.11 as printed; see [`LambdaReturn`](super::LambdaReturn).
        paper_tail: u32,
        /// 1: the policy's target is V(s') (eq. 3.6) in place of G(s') (eq. 3.13).
        td_target: u32,
        /// 1: a sequence's losses are means over its actions in place of sums.
        mean_reduction: u32,
    }
}

impl Kernel for Dqo<'_> {
    fn check(&self) {
        reaches::<Self>(self.starts, self.sequences as usize + 1);
        reaches::<Self>(self.bootstrap, self.sequences as usize);
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
        let beta = T::of(self.beta.into());
        let weights = Weights { lambda: T::of(self.lambda.into()), paper_tail: self.paper_tail != 0 };
        let starts = &self.starts.u32s()[..=self.sequences as usize];
        let (rollout, bootstrap) = (self.rollout.real::<T>(), self.bootstrap.real::<T>());
        let (logp, value) = (self.logp.real::<T>(), self.value.real::<T>());
        let (dlogp, dvalue) = (self.dlogp.real_mut::<T>(), self.dvalue.real_mut::<T>());
        let statistics = &mut self.statistics.real_mut::<T>()[self.first_sequence as usize * STATISTICS..];
        let (logp_ref, logp_mu, reward) =
            (|t: usize| rollout[4 * t], |t: usize| rollout[4 * t + 1], |t: usize| rollout[4 * t + 2]);

        for ((range, &bootstrap), statistics) in starts.windows(2).zip(bootstrap).zip(statistics.chunks_mut(STATISTICS))
        {
            let positions = range[0] as usize..range[1] as usize;
            let length = T::of(positions.len() as f64);
            let bootstrap = bootstrap * rollout[4 * positions.end - 1];
            let [log_ratio, log_ratio_ref, reward_sum, value_sum] = sum_terms(positions.len(), |i| {
                let t = positions.start + i;
                [logp[t] - logp_mu(t), logp[t] - logp_ref(t), reward(t), value[t]]
            });
            let w = log_ratio.min(T::one()).exp();
            let per_sequence = if self.mean_reduction != 0 { length } else { T::one() };
            let scale = T::of(2.0) / (T::of(self.batch_sequences.into()) * per_sequence);
            let policy_scale = scale * beta * if self.policy_is != 0 { w } else { T::one() };
            let value_scale = scale * if self.value_is != 0 { w } else { T::one() };

            let [mut e_squared, mut f_squared, mut f_sum, mut g_sum, mut g_squared, mut kl] = [T::zero(); 6];
            let reward_with_kl = |t: usize| reward(t) + beta * (logp_ref(t) - logp[t]);
            for_each_return(positions, reward_with_kl, value, bootstrap, weights, |step| {
                let Return { t, g, next_g, next_value } = step;
                let next = if self.td_target != 0 { next_value } else { next_g };
                let e = beta * (logp[t] - logp_ref(t)) - (reward(t) + next - value[t]);
                let f = g - value[t];
                dlogp[t] = policy_scale * e;
                dvalue[t] = -value_scale * f;
                e_squared += e * e;
                f_squared += f * f;
                f_sum += f;
                g_sum += g;
                g_squared += g * g;
                kl += kl_term(logp[t] - logp_ref(t));
            });
            statistics.copy_from_slice(&[
                w,
                log_ratio,
                log_ratio_ref,
                reward_sum,
                e_squared,
                f_squared,
                f_sum,
                value_sum,
                g_sum,
                g_squared,
                length,
                kl,
            ]);
        }
    }
}
