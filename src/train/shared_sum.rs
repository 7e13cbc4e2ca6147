//! A step's gradient where ranks share its micro-batches: each rank adds up a share of every weight, in the order of the
//! micro-batches, then all get the whole.
//!
//! Of G bytes of gradients each of N ranks sends G (N-1)/N for every micro-batch that it has computed, and as much for its share of
//! the sum.

use std::ops::Range;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::device::{Precision, Tensor};
use crate::ranks::Ranks;

/// Micro-batches that were computed side by side: the first ranks have one each.
#[derive(Clone, Copy)]
pub struct Turn {
    pub micro_batches: usize,
    /// Whether it is the step's last.
    pub is_last: bool,
}

/// What this rank has added up so far, and what travelled for it.
#[derive(Default)]
pub struct SharedSum {
    /// This rank's share of each bucket.
    shares: Vec<Vec<f64>>,
    traffic: Traffic,
}

/// What was sent by this rank in a step, and how long it took, with the time that it waited for others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub bytes: u64,
    pub seconds: f64,
}

/// What each of several ranks takes for the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SharedPlan {
    pub ranks: usize,
    /// In a step with a micro-batch for each.
    pub sent_bytes: u64,
    /// Its share of the sum, and what travels at a time.
    pub host_bytes: u64,
}

/// A part of a gradient.
struct Part {
    tensor: usize,
    elements: Range<usize>,
}

/// Elements that travel together: few enough to stand beside a network, and enough to be worth a call.
const BUCKET: usize = 1 << 20;

impl SharedSum {
    /// Adds the gradients of a turn to those before it, in order; after the last turn every rank's gradients are the step's.
    /// Before it they become zero.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn add(&mut self, ranks: &Ranks, mut gradients: Vec<&mut Tensor>, turn: Turn) -> Result<()> {
        let start = Instant::now();
        let buckets = buckets(&gradients.iter().map(|gradient| gradient.len()).collect::<Vec<_>>());
        let has_one = ranks.number() < turn.micro_batches;
        self.shares.resize(buckets.len(), Vec::new());
        for (bucket, share) in buckets.iter().zip(&mut self.shares) {
            let count = elements(bucket);
            share.resize(share_of(ranks, ranks.number(), count).len(), 0.0);
            let mine = if has_one { read(&gradients, bucket)? } else { Vec::new() };
            let width = gradients[0].element_bytes();
            let length = |rank: usize| if has_one { share_of(ranks, rank, count).len() * width } else { 0 };
            let lengths: Vec<usize> = (0..ranks.count()).map(length).collect();
            self.traffic.bytes += (lengths.iter().sum::<usize>() - lengths[ranks.number()]) as u64;
            let precision = gradients[0].device().precision();
            for received in ranks.exchange(mine, &lengths).iter().take(turn.micro_batches) {
                add(precision, share, received);
            }
        }
        if turn.is_last {
            self.spread(ranks, &mut gradients, &buckets)?;
        } else if has_one {
            gradients.iter_mut().try_for_each(|gradient| gradient.write(0, vec![0.0; gradient.len()].into_iter()))?;
        }
        self.traffic.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Gives every rank the sum, whose shares the ranks have; they are zero then.
    fn spread(&mut self, ranks: &Ranks, gradients: &mut [&mut Tensor], buckets: &[Vec<Part>]) -> Result<()> {
        let precision = gradients[0].device().precision();
        for (bucket, share) in buckets.iter().zip(self.shares.drain(..)) {
            let mine = to_bytes(precision, &share);
            self.traffic.bytes += (mine.len() * (ranks.count() - 1)) as u64;
            let whole = ranks.gather_bytes(mine).concat();
            let mut rest = &whole[..];
            for Part { tensor, elements } in bucket {
                let (of_part, behind) = rest.split_at(elements.len() * precision.bytes());
                gradients[*tensor].write_part(elements.start, of_part)?;
                rest = behind;
            }
        }
        Ok(())
    }

    /// What gradients of so many elements take.
    pub fn plan(elements: usize, ranks: usize, precision: Precision) -> SharedPlan {
        let width = precision.bytes();
        let share = elements.div_ceil(ranks);
        let held = size_of::<f64>() * (share + 2 * BUCKET.min(elements));
        SharedPlan {
            ranks,
            sent_bytes: (2 * (ranks - 1) * share * width) as u64,
            host_bytes: (held + 4 * width * BUCKET.min(elements)) as u64,
        }
    }

    /// What travelled since the last call.
    pub fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }
}

/// Gradients of these lengths, end to end, cut into buckets.
fn buckets(lengths: &[usize]) -> Vec<Vec<Part>> {
    let count: usize = lengths.iter().sum();
    let mut buckets: Vec<Vec<Part>> = (0..count.div_ceil(BUCKET)).map(|_| Vec::new()).collect();
    let mut first = 0;
    for (tensor, &length) in lengths.iter().enumerate() {
        let mut start = 0;
        while start < length {
            let place = first + start;
            let end = length.min(start + BUCKET - place % BUCKET);
            buckets[place / BUCKET].push(Part { tensor, elements: start..end });
            start = end;
        }
        first += length;
    }
    buckets
}

fn elements(bucket: &[Part]) -> usize {
    bucket.iter().map(|part| part.elements.len()).sum()
}

/// The elements of a bucket of `count` that a rank adds up.
fn share_of(ranks: &Ranks, rank: usize, count: usize) -> Range<usize> {
    count * rank / ranks.count()..count * (rank + 1) / ranks.count()
}

fn read(gradients: &[&mut Tensor], bucket: &[Part]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(elements(bucket) * gradients[0].element_bytes());
    for Part { tensor, elements } in bucket {
        bytes.extend_from_slice(&gradients[*tensor].read_part(elements.start, elements.len())?);
    }
    Ok(bytes)
}

/// As a device adds: the sum of two f32 in f64 rounds to what their sum in f32 is.
fn add(precision: Precision, sum: &mut [f64], bytes: &[u8]) {
    for (sum, value) in sum.iter_mut().zip(of_bytes(precision, bytes)) {
        *sum += value;
        if precision == Precision::F32 {
            *sum = f64::from(*sum as f32);
        }
    }
}

fn of_bytes(precision: Precision, bytes: &[u8]) -> Vec<f64> {
    match precision {
        Precision::F32 => bytemuck::pod_collect_to_vec::<u8, f32>(bytes).into_iter().map(f64::from).collect(),
        Precision::F64 => bytemuck::pod_collect_to_vec(bytes),
    }
}

fn to_bytes(precision: Precision, values: &[f64]) -> Vec<u8> {
    match precision {
        Precision::F32 => values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect(),
        Precision::F64 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}
