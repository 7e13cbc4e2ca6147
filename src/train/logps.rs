//! Log-probs of given responses: a forward pass over a whole data set. The reference policy's, and the `logp` verb's.

use anyhow::{Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::data::{Capacity, DeviceBatch, Example, Sequence, pack};
use crate::device::Device;
use crate::model::{Keep, Policy, PolicyActivations, Scratch, Storage};
use crate::ranks::Ranks;

/// What a policy says of a response, token by token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenLogps {
    /// Log-prob of each token.
    pub logps: Vec<f64>,
    /// Entropy of each token's distribution, in nats.
    pub entropies: Vec<f64>,
}

/// Examples that are packed together at most: what one packing looks at.
pub(super) const WINDOW: usize = 512;

/// A policy that only looks.
pub struct Scorer {
    policy: Policy,
    activations: PolicyActivations,
    scratch: Scratch,
    batch: DeviceBatch,
    budget: usize,
    ranks: Ranks,
}

/// How responses are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scoring {
    /// How the weights are stored.
    pub storage: Storage,
    pub tokens_per_micro_batch: usize,
}

impl Scorer {
    /// Allocates a forward pass over `examples`. `name` is the network's in memory plans.
    ///
    /// # Errors
    /// Where a tensor is missing, of another shape, or has no room.
    pub fn new(device: &Device, source: Source, name: &str, scoring: Scoring, examples: &[Example]) -> Result<Self> {
        let mut capacity = Capacity::default();
        for window in examples.chunks(WINDOW) {
            for members in micro_batches(window, scoring.tokens_per_micro_batch) {
                capacity = capacity.max(Capacity::of(&sequences(window, &members)));
            }
        }
        Self::with_capacity(device, source, name, scoring, capacity)
    }

    /// As [`Scorer::new`], for any examples whose micro-batches fit `capacity`.
    ///
    /// # Errors
    /// As [`Scorer::new`].
    pub fn with_capacity(
        device: &Device,
        source: Source,
        name: &str,
        scoring: Scoring,
        capacity: Capacity,
    ) -> Result<Self> {
        let build = source.build(device, name, scoring.storage);
        Ok(Self {
            policy: Policy::load(&build, capacity.longest)?,
            activations: PolicyActivations::new(&build, capacity.tokens, capacity.positions, Keep::Nothing)?,
            scratch: Scratch::new(&build, capacity.tokens, Keep::Nothing)?,
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

    /// The ranks that score.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// The log-probs of examples that the scorer was made for, in their order; `visit` gets some at a time, with
    /// the number of the first.
    ///
    /// # Errors
    /// Where the device fails, a log-prob is not finite, or `visit` fails.
    pub fn score(
        &mut self,
        examples: &[Example],
        mut visit: impl FnMut(usize, Vec<TokenLogps>) -> Result<()>,
    ) -> Result<()> {
        for (index, window) in examples.chunks(WINDOW).enumerate() {
            let micro_batches = micro_batches(window, self.budget);
            let ranks = self.ranks.clone();
            let scored = of_members(&ranks, &micro_batches, |members| self.score_together(window, members))?;
            visit(index * WINDOW, scored)?;
        }
        Ok(())
    }

    /// The log-probs of the members of a micro-batch.
    fn score_together(&mut self, window: &[Example], members: &[usize]) -> Result<Vec<TokenLogps>> {
        self.batch.load(&sequences(window, members))?;
        self.policy.forward(&self.batch, &mut self.activations, &mut self.scratch);
        let logps = self.activations.head.logp.read(self.batch.positions)?;
        let entropies = self.activations.head.entropy.read(self.batch.positions)?;
        let mut first = 0;
        let of_member = |&member: &usize| {
            let range = first..first + window[member].completion_ids.len();
            first = range.end;
            let (logps, entropies) = (logps[range.clone()].to_vec(), entropies[range].to_vec());
            ensure!(
                logps.iter().chain(&entropies).all(|value| value.is_finite()),
                "the log-probs of the row on line {} are not finite: are the weights damaged, or constants of config.json \
                 (rms_norm_eps, rope) not the model's?",
                window[member].line
            );
            Ok(TokenLogps { logps, entropies })
        };
        members.iter().map(of_member).collect()
    }
}

/// What `score` says of each member of some micro-batches, which ranks share, in the order of the members' numbers.
pub(super) fn of_members<T: Serialize + DeserializeOwned>(
    ranks: &Ranks,
    micro_batches: &[Vec<usize>],
    mut score: impl FnMut(&[usize]) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let scored = ranks.deal(micro_batches.len(), |number| score(&micro_batches[number]))?;
    let mut by_member: Vec<_> = micro_batches.iter().flatten().zip(scored.into_iter().flatten()).collect();
    by_member.sort_by_key(|(member, _)| **member);
    Ok(by_member.into_iter().map(|(_, scored)| scored).collect())
}

pub(super) fn micro_batches(window: &[Example], budget: usize) -> Vec<Vec<usize>> {
    let lengths: Vec<usize> = window.iter().map(|example| sequence(example).tokens()).collect();
    pack(&lengths, budget)
}

pub(super) fn sequences<'a>(window: &'a [Example], members: &[usize]) -> Vec<Sequence<'a>> {
    members.iter().map(|&member| sequence(&window[member])).collect()
}

fn sequence(example: &Example) -> Sequence<'_> {
    Sequence { example, bootstrapped: false }
}
