//! The rounds of an online run: which problems each one asks, and which optimizer steps it has. They depend on the number
//! of problems, the sizes, the length of the run and the seed alone.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::config::{TrainConfig, Truncated};
use super::course::Length;
use crate::data::epoch_order;
use crate::grade::Task;

/// Checks what an online method needs of the settings.
///
/// # Errors
/// Names the option.
pub fn check(config: &TrainConfig) -> Result<()> {
    ensure!(
        config.data.is_none() || config.task.is_some_and(|task| task != Task::None),
        "ppo without a task: it grades what it samples; give --task gsm8k or math"
    );
    ensure!(
        config.truncated == Truncated::Zero,
        "--truncated: ppo knows only zero; the value behind a response that was cut off is 0"
    );
    let (rollouts, samples) = (rollouts_per_round(config), config.num_samples);
    ensure!(
        rollouts >= config.batch_size,
        "--rollouts-per-round is {rollouts}, and --batch-size {}; a step's rows are of one round, so give at least as many",
        config.batch_size
    );
    ensure!(
        rollouts.is_multiple_of(samples),
        "--rollouts-per-round is {rollouts}, which is not a multiple of --num-samples, {samples}"
    );
    Ok(())
}

/// Responses a round: as many as the user says, else four batches, filled up to whole problems.
pub fn rollouts_per_round(config: &TrainConfig) -> usize {
    let default = || (4 * config.batch_size).next_multiple_of(config.num_samples);
    config.rollouts_per_round.unwrap_or_else(default)
}

/// A run's rounds. Problems are asked in an order that is shuffled again for every pass over them; a round takes the next
/// ones, and may reach into the next pass.
pub struct Rounds {
    problems: usize,
    /// Problems a round; the last one may have fewer.
    problems_per_round: usize,
    num_samples: usize,
    batch_size: usize,
    ppo_epochs: usize,
    length: Length,
    seed: u64,
}

/// A response that a round wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The problem's number, from 0.
    pub problem: usize,
    /// Which response to it this is in the whole run, from 0.
    pub sample: usize,
}

impl Rounds {
    /// The rounds over this many problems.
    pub fn new(problems: usize, config: &TrainConfig) -> Self {
        Self {
            problems,
            problems_per_round: rollouts_per_round(config) / config.num_samples,
            num_samples: config.num_samples,
            batch_size: config.batch_size,
            ppo_epochs: config.ppo_epochs,
            length: config.max_steps.map_or(Length::Epochs(config.num_train_epochs), Length::Steps),
            seed: config.seed,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self.length {
            Length::Epochs(epochs) => (epochs * self.problems).div_ceil(self.problems_per_round),
            Length::Steps(steps) => steps.div_ceil(self.steps_of_whole_round()),
        }
    }

    /// Optimizer steps of the run.
    pub fn total_steps(&self) -> usize {
        match self.length {
            Length::Epochs(_) => (0..self.count()).map(|round| self.steps_of(round)).sum(),
            Length::Steps(steps) => steps,
        }
    }

    /// Responses of all rounds.
    pub fn total_rollouts(&self) -> usize {
        (0..self.count()).map(|round| self.rollouts_of(round)).sum()
    }

    /// Responses of the largest round.
    pub fn most_rollouts(&self) -> usize {
        self.rollouts_of(0)
    }

    /// The round, from 0, of the step behind `done` finished ones.
    pub fn round_of(&self, done: usize) -> usize {
        done / self.steps_of_whole_round()
    }

    /// The steps of a round, counted over the run.
    pub fn steps(&self, round: usize) -> Range<usize> {
        let first = round * self.steps_of_whole_round();
        first..(first + self.steps_of(round)).min(self.total_steps())
    }

    /// Passes over the problems before a round, and how many of its optimizer steps would make one more.
    pub fn epochs(&self, round: usize) -> (f64, f64) {
        let problems = self.problems as f64;
        let places = self.places(round);
        (places.start as f64 / problems, self.steps_of(round) as f64 * problems / places.len() as f64)
    }

    /// The responses of a round, problem by problem.
    pub fn wanted(&self, round: usize) -> Vec<Wanted> {
        let mut order = (usize::MAX, Vec::new());
        let mut wanted = Vec::with_capacity(self.rollouts_of(round));
        for place in self.places(round) {
            let pass = place / self.problems;
            if order.0 != pass {
                order = (pass, epoch_order(self.problems, self.seed, pass as u64));
            }
            let problem = order.1[place % self.problems];
            let samples = pass * self.num_samples..(pass + 1) * self.num_samples;
            wanted.extend(samples.map(|sample| Wanted { problem, sample }));
        }
        wanted
    }

    /// What the order of a round's own steps depends on: another seed for each.
    pub fn seed(&self, round: usize) -> u64 {
        self.seed.wrapping_add((round as u64 + 1) << 32)
    }

    /// The problems of a round, as places in the sequence of all passes.
    fn places(&self, round: usize) -> Range<usize> {
        let first = round * self.problems_per_round;
        let end = match self.length {
            Length::Epochs(epochs) => epochs * self.problems,
            Length::Steps(_) => usize::MAX,
        };
        first..(first + self.problems_per_round).min(end)
    }

    /// How many responses a round has.
    pub fn rollouts_of(&self, round: usize) -> usize {
        self.places(round).len() * self.num_samples
    }

    fn steps_of(&self, round: usize) -> usize {
        self.ppo_epochs * self.rollouts_of(round).div_ceil(self.batch_size)
    }

    fn steps_of_whole_round(&self) -> usize {
        self.ppo_epochs * (self.problems_per_round * self.num_samples).div_ceil(self.batch_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TrainConfig {
        TrainConfig {
            batch_size: 4,
            num_samples: 2,
            rollouts_per_round: Some(8),
            ppo_epochs: 3,
            num_train_epochs: 2,
            ..TrainConfig::default()
        }
    }

    #[test]
    fn every_pass_asks_every_problem() {
        let rounds = Rounds::new(7, &config());
        // 14 problems, 4 a round: the last round has 2, whose 4 responses are one step an epoch.
        assert_eq!((rounds.count(), rounds.total_steps(), rounds.total_rollouts()), (4, 3 * 6 + 3, 28));
        let mut asked: Vec<_> = (0..4).flat_map(|round| rounds.wanted(round)).map(|w| (w.problem, w.sample)).collect();
        asked.sort_unstable();
        let every = (0..7).flat_map(|problem| (0..4).map(move |sample| (problem, sample)));
        assert!(asked.into_iter().eq(every));
        assert_eq!((rounds.steps(1), rounds.steps(3)), (6..12, 18..21));
        assert!((6..12).all(|done| rounds.round_of(done) == 1));
        assert_eq!(rounds.epochs(3), (12.0 / 7.0, 10.5));
    }

    #[test]
    fn steps_bound_the_last_round() {
        let rounds = Rounds::new(7, &TrainConfig { max_steps: Some(8), ..config() });
        assert_eq!((rounds.count(), rounds.total_steps(), rounds.steps(1)), (2, 8, 6..8));
        assert_eq!(rounds.wanted(1).len(), 8);
        assert_ne!(rounds.seed(0), rounds.seed(1));
    }
}
