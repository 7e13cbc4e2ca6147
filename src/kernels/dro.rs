//! Direct Reward Optimization, fused: the log-ratio and the reward of a response, its residual and both gradients.

use super::kl_term::{KL_TERM, kl_term};
use super::variants::{launch_reducing_rows, shared};
use crate::device::{Kernel, Real, kernel, reaches, sum_terms};
use crate::gpu::{Cost, Launch, Needs, Traits, Variant};

const SOURCE: &str = include_str!("../../shaders/dro.wgsl");

static VARIANTS: [Variant; 3] = {
    use shared::{GRID, SUBGROUP_ROW, SUBGROUPS_ROW, WORKGROUP_ROW};
    [
        Variant { name: "subgroup", source: SOURCE, includes: &[GRID, SUBGROUP_ROW, KL_TERM], needs: Needs::Subgroups },
        Variant {
            name: "subgroups",
            source: SOURCE,
            includes: &[GRID, SUBGROUPS_ROW, KL_TERM],
            needs: Needs::Subgroups,
        },
        Variant { name: "workgroup", source: SOURCE, includes: &[GRID, WORKGROUP_ROW, KL_TERM], needs: Needs::Nothing },
    ]
};

/// Numbers in a sequence's row of [`Dro::statistics`].
pub const STATISTICS: usize = 8;

kernel! {
    /// With `D = sum (logp - log pi_ref)`, `R = sum reward`, `delta = R - V_1 - beta D`: `dlogp = -2 beta delta / B`,
    /// `dvalue = -2 delta / B` at a sequence's first position and 0 at the others.
    pub struct Dro in "dro" of VARIANTS {
        /// `[sequences + 1]`: where each sequence starts on the axis of positions.
        index starts,
        /// `[positions, 4]`: log pi_ref, log mu, reward, and 1 where the response goes on after its last action.
        read rollout,
        /// `[sequences]`: V of the state after the last action, which R counts where the response goes on.
        read bootstrap,
        /// `[positions]`: log pi of the actions.
        read logp,
        /// `[positions]`: V of the states before them.
        read value,
        /// `[positions]`
        write dlogp,
        /// `[positions]`
        write dvalue,
        /// `[any, STATISTICS]`: `D, sum reward, V_1, delta, sum kl_term(logp - log pi_ref), 0, 0, 0` of each sequence.
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

impl Kernel for Dro<'_> {
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

    fn launch(&self, traits: Traits) -> Launch {
        let positions = self.logp.len() as f64;
        let cost = Cost { flops: 5.0 * positions, bytes: 28.0 * positions };
        launch_reducing_rows(&VARIANTS, traits, self.sequences as usize, 4, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (beta, batch_sequences) = (T::of(self.beta.into()), T::of(self.batch_sequences.into()));
        let starts = &self.starts.u32s()[..=self.sequences as usize];
        let (rollout, bootstrap) = (self.rollout.real::<T>(), self.bootstrap.real::<T>());
        let (logp, value) = (self.logp.real::<T>(), self.value.real::<T>());
        let (dlogp, dvalue) = (self.dlogp.real_mut::<T>(), self.dvalue.real_mut::<T>());
        let statistics = &mut self.statistics.real_mut::<T>()[self.first_sequence as usize * STATISTICS..];
        for ((range, &bootstrap), statistics) in starts.windows(2).zip(bootstrap).zip(statistics.chunks_mut(STATISTICS))
        {
            let (start, end) = (range[0] as usize, range[1] as usize);
            let [log_ratio, reward, kl] = sum_terms(end - start, |i| {
                let t = start + i;
                let x = logp[t] - rollout[4 * t];
                [x, rollout[4 * t + 2], kl_term(x)]
            });
            let first_value = value[start];
            let final_value = bootstrap * rollout[4 * end - 1];
            let delta = reward + final_value - first_value - beta * log_ratio;
            let gradient = -T::of(2.0) * delta / batch_sequences;
            dlogp[start..end].fill(beta * gradient);
            dvalue[start..end].fill(T::zero());
            dvalue[start] = gradient;
            let zero = T::zero();
            statistics.copy_from_slice(&[log_ratio, reward, first_value, delta, kl, zero, zero, zero]);
        }
    }
}
