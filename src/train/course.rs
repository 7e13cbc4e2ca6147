//! Which rows each optimizer step takes, and how they are cut into micro-batches.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::data::{Capacity, Example, Sequence, epoch_order, pack};
use crate::objective::Probes;

/// The steps of a run, decided by the rows and the settings alone.
pub struct Course<'a> {
    examples: &'a [Example],
    rows: &'a [Vec<usize>],
    probes: Option<&'a Probes>,
    settings: CourseSettings,
    /// The epoch that was asked for last, and its order.
    order: RefCell<Option<Epoch>>,
    pub steps_per_epoch: usize,
    pub total_steps: usize,
}

/// What decides the steps over some rows.
#[derive(Clone, Copy)]
pub struct CourseSettings {
    pub batch_size: usize,
    pub tokens_per_micro_batch: usize,
    pub length: Length,
    pub seed: u64,
    /// Whether the value after a cut-off response is wanted.
    pub bootstrap: bool,
}

/// How long a run is.
#[derive(Clone, Copy)]
pub enum Length {
    Epochs(usize),
    Steps(usize),
}

struct Epoch {
    number: usize,
    order: Vec<usize>,
}

/// What the steps over some rows take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepRoom {
    /// Every micro-batch fits it.
    pub capacity: Capacity,
    /// Whether a step may have several micro-batches.
    pub several: bool,
}

/// A micro-batch of a step: the examples' numbers, in the order of its sequences.
pub struct MicroBatch<'a> {
    pub examples: Vec<usize>,
    pub sequences: Vec<Sequence<'a>>,
}

/// What a step scores before it trains.
pub struct StepProbes<'a> {
    /// The examples' numbers, which may repeat.
    pub wanted: Vec<usize>,
    /// Each of them once.
    pub micro_batches: Vec<MicroBatch<'a>>,
}

impl<'a> Course<'a> {
    /// The course over these rows, given by their examples' numbers: what a row has stays together.
    pub fn new(
        examples: &'a [Example],
        rows: &'a [Vec<usize>],
        probes: Option<&'a Probes>,
        settings: CourseSettings,
    ) -> Self {
        let steps_per_epoch = rows.len().div_ceil(settings.batch_size);
        let total_steps = match settings.length {
            Length::Epochs(epochs) => epochs * steps_per_epoch,
            Length::Steps(steps) => steps,
        };
        Self { examples, rows, probes, settings, order: RefCell::default(), steps_per_epoch, total_steps }
    }

    /// The micro-batches of the step after `done` finished ones.
    pub fn step(&self, done: usize) -> Vec<MicroBatch<'a>> {
        self.cut(&self.rows_of(done))
    }

    /// The examples of that step, ascending: in the order of the file.
    pub fn members(&self, done: usize) -> Vec<usize> {
        let mut members: Vec<usize> = self.rows_of(done).into_iter().flatten().copied().collect();
        members.sort_unstable();
        members
    }

    /// What that step scores before it trains.
    pub fn probes(&self, done: usize) -> StepProbes<'a> {
        let wanted = self.probes.map_or_else(Vec::new, |probes| (probes.of_step)(&self.members(done)));
        let distinct: BTreeSet<usize> = wanted.iter().copied().collect();
        let rows: Vec<[usize; 1]> = distinct.into_iter().map(|number| [number]).collect();
        let rows: Vec<&[usize]> = rows.iter().map(|row| &row[..]).collect();
        StepProbes { wanted, micro_batches: self.cut(&rows) }
    }

    fn rows_of(&self, done: usize) -> Vec<&'a [usize]> {
        let (epoch, step) = (done / self.steps_per_epoch, done % self.steps_per_epoch);
        let mut kept = self.order.borrow_mut();
        if kept.as_ref().is_none_or(|known| known.number != epoch) {
            *kept = None;
        }
        let CourseSettings { batch_size, seed, .. } = self.settings;
        let order = || Epoch { number: epoch, order: epoch_order(self.rows.len(), seed, epoch as u64) };
        let order = &kept.get_or_insert_with(order).order;
        let first = step * batch_size;
        order[first..(first + batch_size).min(order.len())].iter().map(|&row| &self.rows[row][..]).collect()
    }

    fn cut(&self, rows: &[&[usize]]) -> Vec<MicroBatch<'a>> {
        let sequence = |&example: &usize| {
            let example = &self.examples[example];
            Sequence { example, bootstrapped: self.settings.bootstrap && example.truncated }
        };
        let length = |row: &&[usize]| row.iter().map(|number| sequence(number).tokens()).sum();
        let lengths: Vec<usize> = rows.iter().map(length).collect();
        let micro_batch = |places: Vec<usize>| {
            let examples: Vec<usize> = places.into_iter().flat_map(|place| rows[place]).copied().collect();
            let sequences = examples.iter().map(sequence).collect();
            MicroBatch { examples, sequences }
        };
        pack(&lengths, self.settings.tokens_per_micro_batch).into_iter().map(micro_batch).collect()
    }

    /// The room that every step of the course fits.
    pub fn room(&self) -> StepRoom {
        let mut room = StepRoom::default();
        for done in 0..self.total_steps {
            let micro_batches = self.step(done);
            room.several |= micro_batches.len() > 1;
            for micro_batch in micro_batches.iter().chain(&self.probes(done).micro_batches) {
                room.capacity = room.capacity.max(Capacity::of(&micro_batch.sequences));
            }
        }
        room
    }
}
