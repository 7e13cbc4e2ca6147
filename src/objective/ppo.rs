//! Proximal Policy Optimization: clipped ratios and values over responses that the policy itself wrote, round by round.

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::method::{About, MethodOptions};
use super::moments::Moments;
use super::options::{ReferenceOptions, ValueOptions};
use super::range::{MOST_ROWS, count, not_negative, positive, unit};
use super::seam::{Estimates, Metrics, Objective, Online, RoundSizes, Scored, Seam, StepTotals, TrainsOn};
use crate::kernels::{self, PPO_STATISTICS, Weights, for_each_return, kl_term};

/// Proximal Policy Optimization, online: problems are sampled, graded and trained on in rounds
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ppo {
    /// The coefficient of log pi_old - log pi_ref in the rewards
    #[arg(long, default_value_t = 0.03)]
    pub beta: f64,
    /// The lambda of the advantages (TRL's default is 0.95)
    #[arg(long, default_value_t = 1.0)]
    pub lambda: f64,
    /// Responses that are sampled, graded and trained on a round [default: 4 x the batch size]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollouts_per_round: Option<usize>,
    /// Responses to each problem of a round
    #[arg(long, default_value_t = 1)]
    pub num_samples: usize,
    /// Passes over a round's responses
    #[arg(long, default_value_t = 4)]
    pub ppo_epochs: usize,
    /// How far from 1 a token's ratio to the policy that wrote it may be
    #[arg(long, default_value_t = 0.2)]
    pub clip_range: f64,
    /// How far a value may be from what it was when its round began
    #[arg(long, default_value_t = 0.2)]
    pub value_clip_range: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub value_network: ValueOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub reference: ReferenceOptions,
}

impl MethodOptions for Ppo {
    const METRICS: &'static [About] = &[
        About { metric: "loss", is: "what is minimised" },
        About { metric: "policy_loss", is: "of the policy" },
        About { metric: "value_loss", is: "of the value network" },
        About { metric: "approx_kl", is: "half the mean square of log pi - log pi_old" },
        About { metric: "clip_frac", is: "share of ratios clipped" },
        About { metric: "value_clip_frac", is: "share of values clipped" },
        About { metric: "ratio/mean", is: "mean of pi / pi_old, a token" },
        About { metric: "values/mean", is: "mean V over the response tokens" },
        About { metric: "values/explained_variance", is: "share of the returns' variance explained by V" },
        About { metric: "round", is: "of sampling and training" },
        About { metric: "log_ratio", is: "to the reference, of a response" },
        About { metric: "kl", is: "to the reference, of a response, estimated" },
        About { metric: "rewards/mean", is: "mean reward of the step's responses" },
    ];
}

/// Generalised advantage estimation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimation {
    /// The coefficient of `log pi_old - log pi_ref` in the rewards.
    pub beta: f64,
    pub lambda: f64,
}

/// What PPO learns of a response token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    pub advantage: f64,
    /// What the value is drawn to: the return.
    pub target: f64,
}

impl Estimation {
    /// The advantages and returns of a response's tokens: with `r_t = -beta (log pi_old - log pi_ref)`, and the outcome's
    /// reward at the last one, `A_t = sum_l lambda^l (r_{t+l} + V_{t+l+1} - V_{t+l})` and `R_t = A_t + V_t`. R is the
    /// lambda-return of r, and V after the last token is 0.
    pub fn estimate(self, scored: Scored) -> Vec<Estimate> {
        let Scored { logps_old, logps_ref, values_old, reward } = scored;
        let count = logps_old.len();
        let outcome = |t: usize| if t + 1 == count { reward } else { 0.0 };
        let rewards = |t: usize| outcome(t) - self.beta * (logps_old[t] - logps_ref[t]);
        let mut estimates = vec![Estimate::default(); count];
        let weights = Weights { lambda: self.lambda, paper_tail: false };
        for_each_return(0..count, rewards, values_old, 0.0, weights, |step| {
            estimates[step.t] = Estimate { advantage: step.g - values_old[step.t], target: step.g };
        });
        estimates
    }
}

/// Shifts and scales advantages to a mean of 0 and a variance of 1, over the tokens of a whole round:
/// `(A - mean) / sqrt(variance + 1e-8)`, with the unbiased variance.
pub fn whiten(advantages: &mut [f64]) {
    let Moments { mean, variance } = Moments::of(advantages);
    for advantage in advantages {
        *advantage = (*advantage - mean) / (variance + 1e-8).sqrt();
    }
}

impl Online for Ppo {
    /// As many responses as the user says, else as [`Objective::settle`] has set them.
    fn rounds(&self) -> RoundSizes {
        let rollouts = self.rollouts_per_round.unwrap_or(self.num_samples);
        RoundSizes { rollouts, num_samples: self.num_samples, epochs: self.ppo_epochs }
    }

    /// log pi_old, the advantage, white over the round's tokens, the return and V_old of every token.
    fn estimate(&self, responses: &[Scored]) -> Estimates {
        let estimation = Estimation { beta: self.beta, lambda: self.lambda };
        let (mut advantages, mut actions) = (Vec::new(), Vec::new());
        let (mut log_ratio, mut kl, mut rewards) = (0.0, 0.0, 0.0);
        for scored in responses {
            let Scored { logps_old, logps_ref, values_old, reward } = *scored;
            for (t, Estimate { advantage, target }) in estimation.estimate(*scored).into_iter().enumerate() {
                advantages.push(advantage);
                actions.push([logps_old[t], 0.0, target, values_old[t]]);
            }
            log_ratio += logps_old.iter().zip(logps_ref).map(|(old, reference)| old - reference).sum::<f64>();
            // The tokens are the old policy's own.
            kl += logps_old.iter().zip(logps_ref).map(|(old, reference)| kl_term(reference - old)).sum::<f64>();
            rewards += reward;
        }
        whiten(&mut advantages);
        actions.iter_mut().zip(advantages).for_each(|(action, advantage)| action[1] = advantage);
        let count = responses.len() as f64;
        let metrics = vec![("log_ratio", log_ratio / count), ("kl", kl / count), ("rewards/mean", rewards / count)];
        Estimates { actions, metrics }
    }
}

impl Objective for Ppo {
    fn name(&self) -> &str {
        "ppo"
    }

    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::try_from(self)?)
    }

    fn settle(&mut self, batch_size: usize) -> Result<()> {
        let sizes =
            [("--batch-size", batch_size), ("--num-samples", self.num_samples), ("--ppo-epochs", self.ppo_epochs)];
        for (option, value) in sizes {
            count(option, value, MOST_ROWS)?;
        }
        not_negative("--beta", self.beta)?;
        unit("--lambda", self.lambda)?;
        positive("--clip-range", self.clip_range)?;
        positive("--value-clip-range", self.value_clip_range)?;
        // Four batches, filled up to whole problems.
        let default = || (4 * batch_size).next_multiple_of(self.num_samples);
        let rollouts = self.rollouts_per_round.unwrap_or_else(default);
        count("--rollouts-per-round", rollouts, MOST_ROWS)?;
        ensure!(
            rollouts >= batch_size,
            "--rollouts-per-round is {rollouts}, and --batch-size {batch_size}; a step's rows are of one round, so give at \
             least as many"
        );
        ensure!(
            rollouts.is_multiple_of(self.num_samples),
            "--rollouts-per-round is {rollouts}, which is not a multiple of --num-samples, {}",
            self.num_samples
        );
        self.rollouts_per_round = Some(rollouts);
        Ok(())
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Responses
    }

    fn value_network(&self) -> Option<&ValueOptions> {
        Some(&self.value_network)
    }

    /// It has its part in the rewards, before a round begins.
    fn reference(&self) -> Option<&ReferenceOptions> {
        Some(&self.reference)
    }

    fn online(&self) -> Option<&dyn Online> {
        Some(self)
    }

    fn statistics(&self) -> usize {
        PPO_STATISTICS
    }

    /// `seam.rollout` holds log pi_old, the whitened advantage, the return and V_old.
    fn gradients(&self, seam: Seam) -> Result<()> {
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
        Ok(())
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
            assert!(
                (found[t].advantage - next).abs() < 1e-15 && (found[t].target - next - values_old[t]).abs() < 1e-15
            );
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
