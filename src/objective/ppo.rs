//! Proximal Policy Optimization: clipped ratios and values over responses that the policy itself wrote, round by round.

use super::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use crate::kernels::{self, PPO_STATISTICS, Weights, for_each_return};

/// PPO's losses.
pub struct Ppo {
    /// How far a token's ratio may be from 1.
    pub clip_range: f64,
    /// How far V may be from what it was when the responses were scored.
    pub value_clip_range: f64,
}

/// Generalised advantage estimation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimation {
    /// The coefficient of `log pi_old - log pi_ref` in the rewards.
    pub beta: f64,
    pub lambda: f64,
}

/// What is known of a response of `n` tokens when its round begins, `n` numbers each.
#[derive(Clone, Copy)]
pub struct Scored<'a> {
    /// log pi of the policy that wrote it.
    pub logps_old: &'a [f64],
    /// log pi_ref.
    pub logps_ref: &'a [f64],
    /// V of the states before the tokens.
    pub values_old: &'a [f64],
    /// Of the whole response.
    pub reward: f64,
}

impl Estimation {
    /// The advantages and returns of a response's tokens: with `r_t = -beta (log pi_old - log pi_ref)`, and the outcome's
    /// reward at the last one, `A_t = sum_l lambda^l (r_{t+l} + V_{t+l+1} - V_{t+l})` and `R_t = A_t + V_t`. R is the
    /// lambda-return of r, and V behind the last token is 0.
    pub fn estimate(self, scored: Scored) -> Vec<(f64, f64)> {
        let Scored { logps_old, logps_ref, values_old, reward } = scored;
        let count = logps_old.len();
        let outcome = |t: usize| if t + 1 == count { reward } else { 0.0 };
        let rewards = |t: usize| outcome(t) - self.beta * (logps_old[t] - logps_ref[t]);
        let mut estimates = vec![(0.0, 0.0); count];
        let weights = Weights { lambda: self.lambda, paper_tail: false };
        for_each_return(0..count, rewards, values_old, 0.0, weights, |step| {
            estimates[step.t] = (step.g - values_old[step.t], step.g);
        });
        estimates
    }
}

/// Shifts and scales advantages to a mean of 0 and a variance of 1, over the tokens of a whole round:
/// `(A - mean) / sqrt(variance + 1e-8)`, with the unbiased variance.
pub fn whiten(advantages: &mut [f64]) {
    let count = advantages.len() as f64;
    let mean = advantages.iter().sum::<f64>() / count;
    let squares: f64 = advantages.iter().map(|advantage| (advantage - mean).powi(2)).sum();
    // A single token has no variance.
    let variance = squares / f64::max(count - 1.0, 1.0);
    for advantage in advantages {
        *advantage = (*advantage - mean) / (variance + 1e-8).sqrt();
    }
}

impl Objective for Ppo {
    fn uses_value(&self) -> bool {
        true
    }

    /// The reference has its part in the rewards, before a round begins.
    fn uses_reference(&self) -> bool {
        false
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Sampled
    }

    fn statistics(&self) -> usize {
        PPO_STATISTICS
    }

    /// `seam.rollout` holds log pi_old, the whitened advantage, the return and V_old.
    fn gradients(&self, seam: Seam) {
        let value = seam.value.expect("PPO trains a value network");
        seam.device.run(kernels::Ppo {
            starts: &seam.batch.response_starts,
            rollout: seam.rollout,
            logp: seam.logp,
            value: value.value,
            dlogp: seam.dlogp,
            dvalue: value.dvalue,
            statistics: seam.statistics,
            sequences: seam.batch.sequences as u32,
            first_sequence: seam.first_sequence as u32,
            batch_tokens: seam.totals.tokens as u32,
            clip_range: self.clip_range as f32,
            value_clip_range: self.value_clip_range as f32,
        });
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        let sums = statistics.chunks_exact(PPO_STATISTICS).fold([0.0; PPO_STATISTICS], |mut sums, row| {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            sums
        });
        let means = sums.map(|sum| sum / totals.tokens as f64);
        let [policy_loss, value_error, approx_kl, clipped, values_clipped, value, target, target_squared, ..] = means;
        let [.., residual, residual_squared, ratio, _] = means;
        let of_returns = target_squared - target * target;
        let of_residuals = residual_squared - residual * residual;
        let explained = if of_returns > 0.0 { 1.0 - of_residuals / of_returns } else { 0.0 };
        let value_loss = 0.5 * value_error;
        vec![
            ("loss", policy_loss + value_loss),
            ("policy_loss", policy_loss),
            ("value_loss", value_loss),
            ("approx_kl", approx_kl),
            ("clip_frac", clipped),
            ("value_clip_frac", values_clipped),
            ("ratio/mean", ratio),
            ("values/mean", value),
            ("values/explained_variance", explained),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the recurrence that other trainers have, from the last token on.
    #[test]
    fn advantages_are_the_sums_of_temporal_differences() {
        let (logps_old, logps_ref) = ([-1.0, -0.5, -2.0], [-1.5, -0.25, -2.5]);
        let values_old = [0.25, 0.5, -0.5];
        let estimation = Estimation { beta: 0.5, lambda: 0.75 };
        let found = estimation.estimate(Scored {
            logps_old: &logps_old,
            logps_ref: &logps_ref,
            values_old: &values_old,
            reward: 1.0,
        });
        let rewards = [-0.25, 0.125, 1.0 - 0.25];
        let mut next = 0.0;
        for t in (0..3).rev() {
            let delta = rewards[t] + values_old.get(t + 1).unwrap_or(&0.0) - values_old[t];
            next = delta + 0.75 * next;
            assert!((found[t].0 - next).abs() < 1e-15 && (found[t].1 - next - values_old[t]).abs() < 1e-15);
        }
    }

    #[test]
    fn white_advantages_have_no_mean_and_unit_variance() {
        let mut advantages = [1.0, 2.0, 3.0];
        whiten(&mut advantages);
        assert!(advantages.iter().zip([-1.0, 0.0, 1.0]).all(|(found, expected)| (found - expected).abs() < 1e-7));
        let mut alone = [2.0];
        whiten(&mut alone);
        assert_eq!(alone, [0.0]);
    }
}
