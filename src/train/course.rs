//! Which examples each optimizer step takes, and how they are cut into micro-batches.

use std::cell::RefCell;

use crate::data::{Capacity, Example, Sequence, epoch_order, pack};

/// The steps of a run, decided by the examples, the batch size, the length of the run and the seed alone.
pub struct Course<'a> {
    examples: &'a [Example],
    batch_size: usize,
    tokens_per_micro_batch: usize,
    seed: u64,
    /// Whether the value behind a cut-off response is wanted.
    bootstrap: bool,
    /// The epoch that was asked for last, and its order.
    order: RefCell<Option<(usize, Vec<usize>)>>,
    pub steps_per_epoch: usize,
    pub total_steps: usize,
}

/// How long a run is.
#[derive(Clone, Copy)]
pub enum Length {
    Epochs(usize),
    Steps(usize),
}

/// A micro-batch of a step: the examples' numbers, in the order of its sequences.
pub struct MicroBatch<'a> {
    pub examples: Vec<usize>,
    pub sequences: Vec<Sequence<'a>>,
}

impl<'a> Course<'a> {
    /// The course over these examples.
    pub fn new(
        examples: &'a [Example],
        (batch_size, tokens_per_micro_batch): (usize, usize),
        length: Length,
        seed: u64,
        bootstrap: bool,
    ) -> Self {
        let steps_per_epoch = examples.len().div_ceil(batch_size);
        let total_steps = match length {
            Length::Epochs(epochs) => epochs * steps_per_epoch,
            Length::Steps(steps) => steps,
        };
        Self {
            examples,
            batch_size,
            tokens_per_micro_batch,
            seed,
            bootstrap,
            order: RefCell::default(),
            steps_per_epoch,
            total_steps,
        }
    }

    /// The micro-batches of the step behind `done` finished ones.
    pub fn step(&self, done: usize) -> Vec<MicroBatch<'a>> {
        let (epoch, step) = (done / self.steps_per_epoch, done % self.steps_per_epoch);
        let mut kept = self.order.borrow_mut();
        if kept.as_ref().is_none_or(|(known, _)| *known != epoch) {
            *kept = None;
        }
        let (_, order) = kept.get_or_insert_with(|| (epoch, epoch_order(self.examples.len(), self.seed, epoch as u64)));
        let first = step * self.batch_size;
        let members = &order[first..(first + self.batch_size).min(order.len())];
        let sequence = |&example: &usize| {
            let example = &self.examples[example];
            Sequence { example, bootstrapped: self.bootstrap && example.truncated }
        };
        let lengths: Vec<usize> = members.iter().map(|member| sequence(member).tokens()).collect();
        let micro_batch = |places: Vec<usize>| {
            let examples: Vec<usize> = places.into_iter().map(|place| members[place]).collect();
            let sequences = examples.iter().map(sequence).collect();
            MicroBatch { examples, sequences }
        };
        pack(&lengths, self.tokens_per_micro_batch).into_iter().map(micro_batch).collect()
    }

    /// The room that every micro-batch of the course fits.
    pub fn capacity(&self) -> Capacity {
        let micro_batches = (0..self.total_steps).flat_map(|done| self.step(done));
        micro_batches.map(|micro_batch| Capacity::of(&micro_batch.sequences)).fold(Capacity::default(), Capacity::max)
    }
}
