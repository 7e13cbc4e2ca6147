//! A step's gradient where ranks share its micro-batches: each rank adds up a share of every weight, in the order of the
//! micro-batches, then all get the whole.
//!
//! Of G bytes of gradients each of N ranks sends G (N-1)/N for every micro-batch that it has computed, and as much for its share of
//! the sum.

use std::ops::Range;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::device::{Precision, Real, Tensor, TensorPart, vectorized};
use crate::ranks::{Parts, Ranks};

/// Micro-batches that were computed side by side: the first ranks have one each.
#[derive(Clone, Copy)]
pub struct Turn {
    pub micro_batches: usize,
    /// Its place in the step.
    pub is_first: bool,
    pub is_last: bool,
}

/// What this rank has added up so far, and what travelled for it.
#[derive(Default)]
pub struct SharedSum {
    /// This rank's share of each bucket.
    shares: Vec<Room>,
    /// A bucket on its way out, and what comes in for one.
    sent: Room,
    received: Room,
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

/// Elements that travel together: few enough to stand beside a network, and enough to be worth a call.
const BUCKET: usize = 1 << 20;

/// A part of a gradient.
struct Part {
    tensor: usize,
    elements: Range<usize>,
}

/// Parts that travel together.
struct Bucket(Vec<Part>);

/// Memory that is used again and again: bytes where numbers of either precision may stand.
#[derive(Default)]
struct Room(Vec<f64>);

impl SharedSum {
    /// Adds the gradients of a turn to those before it, in order; after the last turn every rank's gradients are the step's.
    /// Before it they become zero.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn add(&mut self, ranks: &Ranks, mut gradients: Vec<&mut Tensor>, turn: Turn) -> Result<()> {
        let start = Instant::now();
        let buckets = Bucket::all(&gradients);
        self.shares.resize_with(buckets.len(), Room::default);
        for (number, bucket) in buckets.iter().enumerate() {
            self.add_bucket(ranks, &gradients, number, bucket, turn)?;
            if turn.is_last {
                self.spread(ranks, &mut gradients, number, bucket)?;
            }
        }
        if !turn.is_last && ranks.number() < turn.micro_batches {
            gradients.iter_mut().try_for_each(|gradient| gradient.write(0, vec![0.0; gradient.len()].into_iter()))?;
        }
        self.traffic.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Adds what the ranks have of a bucket to this rank's share of it.
    fn add_bucket(
        &mut self,
        ranks: &Ranks,
        gradients: &[&mut Tensor],
        number: usize,
        bucket: &Bucket,
        turn: Turn,
    ) -> Result<()> {
        let device = gradients[0].device();
        let shares = bucket.shares(ranks, device.precision());
        let mine = shares[ranks.number()];
        let has_one = ranks.number() < turn.micro_batches;
        let sent_lengths = if has_one { shares } else { vec![0; ranks.count()] };
        let sent = self.sent.bytes(sent_lengths.iter().sum());
        if has_one {
            device.read_parts(&bucket.parts(gradients), sent)?;
        }
        let received_length = |rank: usize| if rank < turn.micro_batches { mine } else { 0 };
        let received_lengths: Vec<usize> = (0..ranks.count()).map(received_length).collect();
        let received = self.received.bytes(received_lengths.iter().sum());
        ranks.exchange(
            Parts { bytes: sent, lengths: &sent_lengths },
            Parts { bytes: received, lengths: &received_lengths },
        );
        self.traffic.bytes += (sent.len() - sent_lengths[ranks.number()]) as u64;
        let share = self.shares[number].bytes(mine);
        if turn.is_first {
            share.fill(0);
        }
        for of_rank in received.chunks(mine.max(1)) {
            match device.precision() {
                Precision::F32 => add::<f32>(share, of_rank),
                Precision::F64 => add::<f64>(share, of_rank),
            }
        }
        Ok(())
    }

    /// Gives every rank the sum of a bucket, whose shares the ranks have.
    fn spread(&mut self, ranks: &Ranks, gradients: &mut [&mut Tensor], number: usize, bucket: &Bucket) -> Result<()> {
        let precision = gradients[0].device().precision();
        let lengths = bucket.shares(ranks, precision);
        let mine = self.shares[number].bytes(lengths[ranks.number()]);
        let whole = self.received.bytes(lengths.iter().sum());
        ranks.gather_parts(mine, Parts { bytes: whole, lengths: &lengths });
        self.traffic.bytes += (mine.len() * (ranks.count() - 1)) as u64;
        let mut rest = &*whole;
        for Part { tensor, elements } in &bucket.0 {
            let (of_part, behind) = rest.split_at(elements.len() * precision.bytes());
            gradients[*tensor].write_part(elements.start, of_part)?;
            rest = behind;
        }
        Ok(())
    }

    /// What gradients of so many elements take.
    pub fn plan(elements: usize, ranks: usize, precision: Precision) -> SharedPlan {
        let (width, bucket) = (precision.bytes(), BUCKET.min(elements));
        let share = elements.div_ceil(ranks);
        SharedPlan {
            ranks,
            sent_bytes: (2 * (ranks - 1) * share * width) as u64,
            host_bytes: ((share + 2 * bucket) * width) as u64,
        }
    }

    /// What travelled since the last call.
    pub fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }
}

impl Bucket {
    /// Gradients end to end, cut into buckets.
    fn all(gradients: &[&mut Tensor]) -> Vec<Self> {
        let count: usize = gradients.iter().map(|gradient| gradient.len()).sum();
        let mut buckets: Vec<Self> = (0..count.div_ceil(BUCKET)).map(|_| Self(Vec::new())).collect();
        let mut first = 0;
        for (tensor, gradient) in gradients.iter().enumerate() {
            let mut start = 0;
            while start < gradient.len() {
                let place = first + start;
                let end = gradient.len().min(start + BUCKET - place % BUCKET);
                buckets[place / BUCKET].0.push(Part { tensor, elements: start..end });
                start = end;
            }
            first += gradient.len();
        }
        buckets
    }

    fn parts<'a>(&self, gradients: &'a [&mut Tensor]) -> Vec<TensorPart<'a>> {
        let part =
            |Part { tensor, elements }: &Part| TensorPart { tensor: &*gradients[*tensor], elements: elements.clone() };
        self.0.iter().map(part).collect()
    }

    /// The bytes of it that each rank adds up.
    fn shares(&self, ranks: &Ranks, precision: Precision) -> Vec<usize> {
        let (ranks, elements) = (ranks.count(), self.0.iter().map(|part| part.elements.len()).sum::<usize>());
        let start = |rank: usize| elements * rank / ranks;
        (0..ranks).map(|rank| (start(rank + 1) - start(rank)) * precision.bytes()).collect()
    }
}

impl Room {
    /// The first so many bytes.
    fn bytes(&mut self, count: usize) -> &mut [u8] {
        let words = count.div_ceil(size_of::<f64>());
        if self.0.len() < words {
            self.0.resize(words, 0.0);
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..count]
    }
}

fn add<T: Real>(sum: &mut [u8], values: &[u8]) {
    let (sum, values): (&mut [T], &[T]) = (bytemuck::cast_slice_mut(sum), bytemuck::cast_slice(values));
    vectorized(
        #[inline(always)]
        || sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += value),
    );
}
