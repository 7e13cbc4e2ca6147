//! The rounds of an online run: which problems each one asks, and which optimizer steps it has. They depend on the number
//! of problems, the sizes, the length of the run and the seed alone.

use std::ops::Range;

use super::course::Length;
use crate::data::epoch_order;
use crate::objective::RoundSizes;

/// A run's rounds. Problems are asked in an order that is shuffled again for every pass over them; a round takes the next
/// ones, and may reach into the next pass.
pub struct Rounds {
    problems: usize,
    sizes: RoundSizes,
    batch_size: usize,
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
    pub fn new(problems: usize, sizes: RoundSizes, batch_size: usize, length: Length, seed: u64) -> Self {
        Self { problems, sizes, batch_size, length, seed }
    }

    /// Problems a round; the last one may have fewer.
    fn problems_per_round(&self) -> usize {
        self.sizes.rollouts / self.sizes.num_samples
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self.length {
            Length::Epochs(epochs) => (epochs * self.problems).div_ceil(self.problems_per_round()),
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

    /// The round, from 0, of the step after `done` finished ones.
    pub fn round_of(&self, done: usize) -> usize {
        done / self.steps_of_whole_round()
    }

    /// The steps of a round, counted over the run.
    pub fn steps(&self, round: usize) -> Range<usize> {
        let first = round * self.steps_of_whole_round();
        first..(first + self.steps_of(round)).min(self.total_steps())
    }

    /// Passes over the problems before a round.
    pub fn epochs_before(&self, round: usize) -> f64 {
        self.places(round).start as f64 / self.problems as f64
    }

    /// How many of a round's optimizer steps would make one pass over the problems.
    pub fn steps_per_epoch(&self, round: usize) -> f64 {
        self.steps_of(round) as f64 * self.problems as f64 / self.places(round).len() as f64
    }

    /// The responses of a round, problem by problem.
    pub fn wanted(&self, round: usize) -> Vec<Wanted> {
        let (mut pass_of_order, mut order) = (usize::MAX, Vec::new());
        let mut wanted = Vec::with_capacity(self.rollouts_of(round));
        for place in self.places(round) {
            let pass = place / self.problems;
            if pass_of_order != pass {
                (pass_of_order, order) = (pass, epoch_order(self.problems, self.seed, pass as u64));
            }
            let problem = order[place % self.problems];
            let samples = pass * self.sizes.num_samples..(pass + 1) * self.sizes.num_samples;
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
        let first = round * self.problems_per_round();
        let end = match self.length {
            Length::Epochs(epochs) => epochs * self.problems,
            Length::Steps(_) => usize::MAX,
        };
        first..(first + self.problems_per_round()).min(end)
    }

    /// How many responses a round has.
    pub fn rollouts_of(&self, round: usize) -> usize {
        self.places(round).len() * self.sizes.num_samples
    }

    fn steps_of(&self, round: usize) -> usize {
        self.sizes.epochs * self.rollouts_of(round).div_ceil(self.batch_size)
    }

    fn steps_of_whole_round(&self) -> usize {
        self.sizes.epochs * (self.problems_per_round() * self.sizes.num_samples).div_ceil(self.batch_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(length: Length) -> Rounds {
        Rounds::new(7, RoundSizes { rollouts: 8, num_samples: 2, epochs: 3 }, 4, length, 42)
    }

    #[test]
    fn every_pass_asks_every_problem() {
        let rounds = rounds(Length::Epochs(2));
        // 14 problems, 4 a round: the last round has 2, whose 4 responses are one step an epoch.
        assert_eq!((rounds.count(), rounds.total_steps(), rounds.total_rollouts()), (4, 3 * 6 + 3, 28));
        let mut asked: Vec<_> = (0..4).flat_map(|round| rounds.wanted(round)).map(|w| (w.problem, w.sample)).collect();
        asked.sort_unstable();
        let every = (0..7).flat_map(|problem| (0..4).map(move |sample| (problem, sample)));
        assert!(asked.into_iter().eq(every));
        assert_eq!((rounds.steps(1), rounds.steps(3)), (6..12, 18..21));
        assert!((6..12).all(|done| rounds.round_of(done) == 1));
        assert_eq!((rounds.epochs_before(3), rounds.steps_per_epoch(3)), (12.0 / 7.0, 10.5));
    }

    #[test]
    fn steps_bound_the_last_round() {
        let rounds = rounds(Length::Steps(8));
        assert_eq!((rounds.count(), rounds.total_steps(), rounds.steps(1)), (2, 8, 6..8));
        assert_eq!(rounds.wanted(1).len(), 8);
        assert_ne!(rounds.seed(0), rounds.seed(1));
    }
}
