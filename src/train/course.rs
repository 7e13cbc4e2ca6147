//! Which rows each optimizer step takes, and how they are cut into micro-batches.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::data::{Capacity, Example, Mismatched, Sequence, epoch_order, pack};

/// The steps of a run, decided by the rows, the batch size, the length of the run and the seed alone.
pub struct Course<'a> {
    examples: &'a [Example],
    rows: &'a [Vec<usize>],
    mismatched: Option<&'a Mismatched>,
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
    /// The course over these rows, given by their examples' numbers: what a row has stays together. `mismatched` are the
    /// pairs that the method asks for beside them.
    pub fn new(
        (examples, rows, mismatched): (&'a [Example], &'a [Vec<usize>], Option<&'a Mismatched>),
        (batch_size, tokens_per_micro_batch): (usize, usize),
        length: Length,
        seed: u64,
        bootstrap: bool,
    ) -> Self {
        let steps_per_epoch = rows.len().div_ceil(batch_size);
        let total_steps = match length {
            Length::Epochs(epochs) => epochs * steps_per_epoch,
            Length::Steps(steps) => steps,
        };
        Self {
            examples,
            rows,
            mismatched,
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
        self.cut(&self.rows_of(done))
    }

    /// The examples of that step, ascending: in the order of the file.
    pub fn members(&self, done: usize) -> Vec<usize> {
        let mut members: Vec<usize> = self.rows_of(done).into_iter().flatten().copied().collect();
        members.sort_unstable();
        members
    }

    /// The examples of that step's mismatched pairs, one for each of its examples, and micro-batches that have each once.
    pub fn mismatched(&self, done: usize) -> (Vec<usize>, Vec<MicroBatch<'a>>) {
        let pairs = self.mismatched.map_or_else(Vec::new, |mismatched| mismatched.of(&self.members(done)));
        let distinct: BTreeSet<usize> = pairs.iter().copied().collect();
        let rows: Vec<[usize; 1]> = distinct.into_iter().map(|number| [number]).collect();
        let rows: Vec<&[usize]> = rows.iter().map(|row| &row[..]).collect();
        let micro_batches = self.cut(&rows);
        (pairs, micro_batches)
    }

    fn rows_of(&self, done: usize) -> Vec<&'a [usize]> {
        let (epoch, step) = (done / self.steps_per_epoch, done % self.steps_per_epoch);
        let mut kept = self.order.borrow_mut();
        if kept.as_ref().is_none_or(|(known, _)| *known != epoch) {
            *kept = None;
        }
        let (_, order) = kept.get_or_insert_with(|| (epoch, epoch_order(self.rows.len(), self.seed, epoch as u64)));
        let first = step * self.batch_size;
        order[first..(first + self.batch_size).min(order.len())].iter().map(|&row| &self.rows[row][..]).collect()
    }

    fn cut(&self, rows: &[&[usize]]) -> Vec<MicroBatch<'a>> {
        let sequence = |&example: &usize| {
            let example = &self.examples[example];
            Sequence { example, bootstrapped: self.bootstrap && example.truncated }
        };
        let length = |row: &&[usize]| row.iter().map(|number| sequence(number).tokens()).sum();
        let lengths: Vec<usize> = rows.iter().map(length).collect();
        let micro_batch = |places: Vec<usize>| {
            let examples: Vec<usize> = places.into_iter().flat_map(|place| rows[place]).copied().collect();
            let sequences = examples.iter().map(sequence).collect();
            MicroBatch { examples, sequences }
        };
        pack(&lengths, self.tokens_per_micro_batch).into_iter().map(micro_batch).collect()
    }

    /// The room that every micro-batch of the course fits.
    pub fn capacity(&self) -> Capacity {
        let micro_batches = (0..self.total_steps).flat_map(|done| {
            let (_, mismatched) = self.mismatched(done);
            self.step(done).into_iter().chain(mismatched)
        });
        micro_batches.map(|micro_batch| Capacity::of(&micro_batch.sequences)).fold(Capacity::default(), Capacity::max)
    }
}
