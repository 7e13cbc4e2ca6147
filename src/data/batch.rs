//! Packed micro-batches: sequences end to end on one token axis, with their starts; no padding anywhere.

use anyhow::Result;

use super::examples::Example;
use crate::device::{DType, Device, Tensor};
use crate::kernels::{NONE, hash};

/// The sizes that a batch's tensors are made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Tokens on the axis.
    pub tokens: usize,
    /// Response tokens among them.
    pub positions: usize,
    pub sequences: usize,
    /// Tokens of the longest sequence.
    pub longest: usize,
}

impl Capacity {
    /// Room for either of two.
    pub fn max(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            positions: self.positions.max(other.positions),
            sequences: self.sequences.max(other.sequences),
            longest: self.longest.max(other.longest),
        }
    }

    /// What these sequences need.
    pub fn of(sequences: &[Sequence]) -> Self {
        Self {
            tokens: sequences.iter().map(Sequence::tokens).sum(),
            positions: sequences.iter().map(|sequence| sequence.example.completion_ids.len()).sum(),
            sequences: sequences.len(),
            longest: sequences.iter().map(Sequence::tokens).max().unwrap_or(0),
        }
    }
}

/// An example in a batch.
#[derive(Clone, Copy)]
pub struct Sequence<'a> {
    pub example: &'a Example,
    /// The state after the last action is wanted too: the last token goes in, and V is read there.
    pub bootstrapped: bool,
}

impl Sequence<'_> {
    /// Tokens that go in: all but the last, from which nothing is predicted, unless it is bootstrapped.
    pub fn tokens(&self) -> usize {
        self.example.len() - usize::from(!self.bootstrapped)
    }
}

/// A packed micro-batch on a device. Its tensors are made once and filled again for every micro-batch.
pub struct DeviceBatch {
    pub tokens: usize,
    /// Response tokens; the axis of log-probs and values.
    pub positions: usize,
    pub sequences: usize,
    /// Tokens of the longest sequence.
    pub longest: usize,
    /// Different ids among the tokens.
    pub groups: usize,
    /// `[tokens]`
    pub ids: Tensor,
    /// `[tokens]`: each token's place in its sequence.
    pub position_in_sequence: Tensor,
    /// `[tokens, 2]`: where each token's sequence starts and ends.
    pub bounds: Tensor,
    /// `[tokens]`, see [`TokenGroups`].
    pub order: Tensor,
    /// `[groups + 1]`
    pub group_starts: Tensor,
    /// `[groups]`
    pub group_ids: Tensor,
    /// `[positions]`: the token that predicts each response token.
    pub response_rows: Tensor,
    /// `[tokens]`: the inverse of `response_rows`, NONE for the others.
    pub position_of_token: Tensor,
    /// `[positions]`: the response tokens.
    pub targets: Tensor,
    /// `[sequences + 1]`: where each sequence's response starts on the axis of positions.
    pub response_starts: Tensor,
    /// `[sequences]`: the last token where it is bootstrapped, else NONE.
    pub final_rows: Tensor,
    /// Whether adapters leave out some of their inputs: in a training step's passes.
    pub drops: bool,
    /// `[tokens]`: what tells which, see [`DropoutDraw`].
    pub dropout_keys: Tensor,
}

/// Which draw of dropout it is: a run's seed and its step. A token's key is a hash of it, of the row's line and of the tokens up
/// to this one, so that no cut into micro-batches changes what is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutDraw {
    pub seed: u64,
    pub step: usize,
}

impl DropoutDraw {
    /// The keys of a sequence's tokens.
    fn keys(self, sequence: &Sequence) -> impl Iterator<Item = u32> {
        let Example { prompt_ids, completion_ids, line, .. } = sequence.example;
        let words = [self.seed as u32, (self.seed >> 32) as u32, self.step as u32, *line as u32];
        let start = words.into_iter().fold(0, |key, word| hash(key ^ word));
        let ids = prompt_ids.iter().chain(completion_ids).take(sequence.tokens());
        ids.scan(start, |key, id| {
            *key = hash(*key ^ id);
            Some(*key)
        })
    }
}

impl DeviceBatch {
    /// Room for batches of this size.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(device: &Device, capacity: Capacity) -> Result<Self> {
        let tensor = |name: &str, shape: &[usize]| device.tensor(format!("batch/{name}"), shape, DType::U32);
        let Capacity { tokens, positions, sequences, .. } = capacity;
        Ok(Self {
            tokens: 0,
            positions: 0,
            sequences: 0,
            longest: 0,
            groups: 0,
            ids: tensor("ids", &[tokens])?,
            position_in_sequence: tensor("position_in_sequence", &[tokens])?,
            bounds: tensor("bounds", &[tokens, 2])?,
            order: tensor("order", &[tokens])?,
            group_starts: tensor("group_starts", &[tokens + 1])?,
            group_ids: tensor("group_ids", &[tokens])?,
            response_rows: tensor("response_rows", &[positions])?,
            position_of_token: tensor("position_of_token", &[tokens])?,
            targets: tensor("targets", &[positions])?,
            response_starts: tensor("response_starts", &[sequences + 1])?,
            final_rows: tensor("final_rows", &[sequences])?,
            drops: false,
            dropout_keys: tensor("dropout_keys", &[tokens])?,
        })
    }

    /// Fills the batch with sequences that fit.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn load(&mut self, sequences: &[Sequence]) -> Result<()> {
        let mut ids = Vec::new();
        let mut position_in_sequence = Vec::new();
        let mut bounds = Vec::new();
        let mut response_rows = Vec::new();
        let mut targets = Vec::new();
        let mut response_starts = vec![0];
        let mut final_rows = Vec::new();
        for sequence in sequences {
            let Example { prompt_ids, completion_ids, .. } = sequence.example;
            let (start, tokens) = (ids.len() as u32, sequence.tokens() as u32);
            ids.extend(prompt_ids.iter().chain(completion_ids).take(tokens as usize));
            position_in_sequence.extend(0..tokens);
            bounds.extend((0..tokens).flat_map(|_| [start, start + tokens]));
            let first_row = start + prompt_ids.len() as u32 - 1;
            response_rows.extend(first_row..first_row + completion_ids.len() as u32);
            targets.extend(completion_ids);
            response_starts.push(targets.len() as u32);
            final_rows.push(if sequence.bootstrapped { start + tokens - 1 } else { NONE });
        }
        let mut position_of_token = vec![NONE; ids.len()];
        for (position, &row) in response_rows.iter().enumerate() {
            position_of_token[row as usize] = position as u32;
        }
        let TokenGroups { order, starts: group_starts, ids: group_ids } = TokenGroups::of(&ids);

        let Capacity { tokens, positions, sequences, longest } = Capacity::of(sequences);
        (self.tokens, self.positions, self.sequences, self.longest) = (tokens, positions, sequences, longest);
        self.groups = group_ids.len();
        self.drops = false;
        for (tensor, values) in [
            (&mut self.ids, ids),
            (&mut self.position_in_sequence, position_in_sequence),
            (&mut self.bounds, bounds),
            (&mut self.order, order),
            (&mut self.group_starts, group_starts),
            (&mut self.group_ids, group_ids),
            (&mut self.response_rows, response_rows),
            (&mut self.position_of_token, position_of_token),
            (&mut self.targets, targets),
            (&mut self.response_starts, response_starts),
            (&mut self.final_rows, final_rows),
        ] {
            tensor.write_u32(0, &values)?;
        }
        Ok(())
    }

    /// As [`DeviceBatch::load`], for the passes of a training step.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn load_dropping(&mut self, sequences: &[Sequence], draw: DropoutDraw) -> Result<()> {
        self.load(sequences)?;
        self.drops = true;
        let keys: Vec<u32> = sequences.iter().flat_map(|sequence| draw.keys(sequence)).collect();
        self.dropout_keys.write_u32(0, &keys)
    }

    /// Fills the batch with one token of each of several sequences; the hidden state of each is wanted.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn load_newest(&mut self, tokens: &[NewestToken]) -> Result<()> {
        let count = tokens.len();
        (self.tokens, self.positions, self.sequences) = (count, count, count);
        self.longest = 1;
        self.drops = false;
        self.ids.write_u32(0, &tokens.iter().map(|token| token.id).collect::<Vec<_>>())?;
        let positions: Vec<u32> = tokens.iter().map(|token| token.position as u32).collect();
        self.position_in_sequence.write_u32(0, &positions)?;
        self.response_rows.write_u32(0, &(0..count as u32).collect::<Vec<_>>())
    }
}

/// The token of a sequence that goes in next, where those before it are in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestToken {
    pub id: u32,
    /// In its sequence.
    pub position: usize,
}

/// Tokens grouped by id, for [`EmbeddingBackward`](crate::kernels::EmbeddingBackward).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGroups {
    /// `[tokens]`: the tokens' numbers, group by group and ascending in each.
    pub order: Vec<u32>,
    /// `[groups + 1]`: where each group starts in `order`, and where the last one ends.
    pub starts: Vec<u32>,
    /// `[groups]`: ascending.
    pub ids: Vec<u32>,
}

impl TokenGroups {
    /// The groups of tokens with these ids.
    pub fn of(ids: &[u32]) -> Self {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|&token| (ids[token as usize], token));
        let mut groups = Self { order, starts: Vec::new(), ids: Vec::new() };
        for (place, &token) in groups.order.iter().enumerate() {
            let id = ids[token as usize];
            if groups.ids.last() != Some(&id) {
                groups.ids.push(id);
                groups.starts.push(place as u32);
            }
        }
        groups.starts.push(ids.len() as u32);
        groups
    }
}
