//! Values of given responses: what a value network says of the state before each token.

use anyhow::{Result, ensure};

use super::logps::{Scoring, micro_batches, of_members, sequences};
use super::source::Source;
use crate::data::{Capacity, DeviceBatch, Example};
use crate::device::Device;
use crate::model::{Keep, Scratch, Value, ValueActivations};
use crate::ranks::Ranks;

/// A value network that only looks.
pub struct ValueScorer {
    network: Value,
    activations: ValueActivations,
    scratch: Scratch,
    batch: DeviceBatch,
    budget: usize,
    ranks: Ranks,
}

impl ValueScorer {
    /// Allocates a forward pass over `examples`.
    ///
    /// # Errors
    /// Where a tensor is missing, of another shape, or has no room.
    pub fn new(device: &Device, source: Source, scoring: Scoring, examples: &[Example]) -> Result<Self> {
        let budget = scoring.tokens_per_micro_batch;
        let capacities =
            micro_batches(examples, budget).into_iter().map(|members| Capacity::of(&sequences(examples, &members)));
        Self::with_capacity(device, source, scoring, capacities.fold(Capacity::default(), Capacity::max))
    }

    /// As [`ValueScorer::new`], for any examples whose micro-batches fit `capacity`.
    ///
    /// # Errors
    /// As [`ValueScorer::new`].
    pub fn with_capacity(device: &Device, source: Source, scoring: Scoring, capacity: Capacity) -> Result<Self> {
        let build = source.build(device, "value", scoring.storage);
        let Capacity { tokens, positions, sequences, longest } = capacity;
        Ok(Self {
            network: Value::load(&build, longest)?,
            activations: ValueActivations::new(&build, tokens, positions, sequences, Keep::Nothing)?,
            scratch: Scratch::new(&build, tokens, Keep::Nothing)?,
            batch: DeviceBatch::new(device, capacity)?,
            budget: scoring.tokens_per_micro_batch,
            ranks: Ranks::alone(),
        })
    }

    /// This scorer, with a share of the work on each of some ranks: all score the same examples together.
    pub fn on_ranks(mut self, ranks: &Ranks) -> Self {
        self.ranks = ranks.clone();
        self
    }

    /// V of the state before each response token, of the examples that the scorer was made for, in their order. `tick` hears how
    /// many more this rank has scored.
    ///
    /// # Errors
    /// Where the device fails or a value is not finite.
    pub fn score(&mut self, examples: &[Example], mut tick: impl FnMut(usize)) -> Result<Vec<Vec<f64>>> {
        let micro_batches = micro_batches(examples, self.budget);
        let ranks = self.ranks.clone();
        of_members(&ranks, &micro_batches, |members| {
            let values = self.score_together(examples, members)?;
            tick(members.len());
            Ok(values)
        })
    }

    /// The values of the members of a micro-batch.
    fn score_together(&mut self, examples: &[Example], members: &[usize]) -> Result<Vec<Vec<f64>>> {
        self.batch.load(&sequences(examples, members))?;
        self.network.forward(&self.batch, &mut self.activations, &mut self.scratch);
        let mut values = self.activations.value.read(self.batch.positions)?.into_iter();
        let of_member = |&member: &usize| {
            let example = &examples[member];
            let values: Vec<f64> = values.by_ref().take(example.completion_ids.len()).collect();
            ensure!(
                values.iter().all(|value| value.is_finite()),
                "the values of the row on line {} are not finite: are the weights damaged, or constants of config.json \
                 (rms_norm_eps, rope) not the network's?",
                example.line
            );
            Ok(values)
        };
        members.iter().map(of_member).collect()
    }
}
