//! A step's gradient where ranks share its micro-batches: each rank adds up a share of every weight, in the order of the
//! micro-batches, then all get the whole.
//!
//! Of G bytes of gradients each of N ranks sends G (N-1)/N for every micro-batch that it has computed, and as much for its share of
//! the sum. What a GPU has finished of a gradient travels while it computes the rest of the backward pass.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::device::{Device, Precision, ReadAhead, Real, Tensor, TensorPart, vectorized};
use crate::model::{Parameter, Shard};
use crate::ranks::{Parts, Ranks};

/// Micro-batches that are computed side by side: the first ranks have one each.
#[derive(Clone, Copy, Default)]
pub struct Turn {
    pub micro_batches: usize,
    /// Its place in the step.
    pub is_first: bool,
    pub is_last: bool,
}

/// What this rank has added up so far, and what travels for it.
pub struct SharedSum {
    device: Device,
    ranks: Ranks,
    buckets: Buckets,
    turn: Turn,
    /// Gradients of the turn on their way out; of their elements so many were offered, and so many buckets were exchanged.
    outgoing: ReadAhead,
    offered: usize,
    exchanged: usize,
    received: Room,
    /// This rank's share of each bucket.
    shares: Vec<Room>,
    traffic: Traffic,
}

/// What was sent by this rank in a step, and how long it took, with the time that it waited for other ranks.
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
pub const BUCKET: usize = ReadAhead::GPU_LOAD / size_of::<f32>();

/// Buckets that a GPU may have finished before they travel: a layer's of a network of half a billion weights.
const AHEAD: usize = 16;

/// Gradients end to end, cut into buckets.
#[derive(Clone, Copy)]
struct Buckets {
    elements: usize,
    ranks: usize,
    precision: Precision,
}

/// Memory that is used again and again: bytes where numbers of either precision may stand.
#[derive(Default)]
struct Room(Vec<f64>);

impl SharedSum {
    /// For gradients of so many elements in all.
    pub fn new(device: &Device, ranks: &Ranks, elements: usize) -> Self {
        let buckets = Buckets { elements, ranks: ranks.count(), precision: device.precision() };
        Self {
            device: device.clone(),
            ranks: ranks.clone(),
            buckets,
            turn: Turn::default(),
            outgoing: read_ahead(device, elements),
            offered: 0,
            exchanged: 0,
            received: Room::default(),
            shares: (0..buckets.count()).map(|_| Room::default()).collect(),
            traffic: Traffic::default(),
        }
    }

    /// Begins a turn: before this rank's backward pass.
    pub fn begin(&mut self, turn: Turn) {
        (self.turn, self.offered, self.exchanged) = (turn, 0, 0);
    }

    /// Weights whose gradients the backward pass has finished, in the order of [`SharedSum::end`]. A GPU computes on while those
    /// before them travel; on the CPU device they would only hold it up.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn hear(&mut self, finished: &mut dyn Iterator<Item = &mut Parameter>) -> Result<()> {
        if !self.device.computes_apart() {
            return Ok(());
        }
        if self.outgoing.sent() > 0 {
            // What was recorded meanwhile, for the GPU to do while this travels.
            self.device.begin();
        }
        while self.outgoing.sent() > 0 {
            self.exchange()?;
        }
        for gradient in finished.flat_map(Parameter::shards_mut).filter_map(|shard: &mut Shard| shard.gradient.as_ref())
        {
            self.offer(gradient)?;
        }
        self.outgoing.send()
    }

    /// Adds the gradients of the turn to those before it, in order; after the last turn every rank's gradients are the step's.
    /// Before it they become zero.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn end(&mut self, mut gradients: Vec<&mut Tensor>) -> Result<()> {
        if self.has_one() {
            let mut before = 0;
            for gradient in &gradients {
                // Whole ones were offered while the backward pass went on.
                if before == self.offered {
                    self.offer(gradient)?;
                }
                before += gradient.len();
            }
        }
        while self.exchanged < self.buckets.count() {
            self.exchange()?;
        }
        if self.turn.is_last {
            self.spread(&mut gradients)
        } else if self.has_one() {
            gradients.iter_mut().try_for_each(|gradient| gradient.write(0, std::iter::repeat_n(0.0, gradient.len())))
        } else {
            Ok(())
        }
    }

    /// Whether this rank has a micro-batch in the turn.
    fn has_one(&self) -> bool {
        self.ranks.number() < self.turn.micro_batches
    }

    /// Has a gradient read, behind those before it.
    fn offer(&mut self, gradient: &Tensor) -> Result<()> {
        let mut start = 0;
        while start < gradient.len() {
            let end = gradient.len().min(start + BUCKET - self.offered % BUCKET);
            self.outgoing.push(TensorPart { tensor: gradient, elements: start..end })?;
            self.offered += end - start;
            start = end;
            if self.offered.is_multiple_of(BUCKET) || self.offered == self.buckets.elements {
                self.outgoing.close();
                if self.outgoing.is_full() {
                    self.exchange()?;
                }
            }
        }
        Ok(())
    }

    /// Adds what the ranks have of the next bucket to this rank's share of it.
    fn exchange(&mut self) -> Result<()> {
        let shares = self.buckets.shares(self.exchanged);
        let (has_one, turn) = (self.has_one(), self.turn);
        let mine = shares[self.ranks.number()];
        let received_length = |rank: usize| if rank < turn.micro_batches { mine } else { 0 };
        let received_lengths: Vec<usize> = (0..shares.len()).map(received_length).collect();
        let received = self.received.bytes(received_lengths.iter().sum());
        let incoming = Parts { bytes: &mut *received, lengths: &received_lengths };
        let exchange = |bytes: &[u8], lengths: &[usize]| {
            self.traffic.time(|| self.ranks.exchange(Parts { bytes, lengths }, incoming));
        };
        if has_one {
            let count: usize = shares.iter().sum();
            self.outgoing.take(|bytes| exchange(&bytes[..count], &shares))?;
            self.traffic.bytes += (count - mine) as u64;
        } else {
            exchange(&[], &vec![0; shares.len()]);
        }
        let share = self.shares[self.exchanged].bytes(mine);
        if turn.is_first {
            share.fill(0);
        }
        for of_rank in received.chunks(mine.max(1)) {
            match self.buckets.precision {
                Precision::F32 => add::<f32>(share, of_rank),
                Precision::F64 => add::<f64>(share, of_rank),
            }
        }
        self.exchanged += 1;
        Ok(())
    }

    /// Gives every rank the sum, whose shares the ranks have.
    fn spread(&mut self, gradients: &mut [&mut Tensor]) -> Result<()> {
        let width = self.buckets.precision.bytes();
        let (mut tensor, mut start) = (0, 0);
        for (number, share) in self.shares.iter_mut().enumerate() {
            let lengths = self.buckets.shares(number);
            let mine = share.bytes(lengths[self.ranks.number()]);
            let whole = self.received.bytes(lengths.iter().sum());
            self.traffic.time(|| self.ranks.gather_parts(mine, Parts { bytes: whole, lengths: &lengths }));
            self.traffic.bytes += (mine.len() * (lengths.len() - 1)) as u64;
            let mut rest = &*whole;
            while !rest.is_empty() {
                let count = (rest.len() / width).min(gradients[tensor].len() - start);
                let (of_tensor, behind) = rest.split_at(count * width);
                gradients[tensor].write_part(start, of_tensor)?;
                (rest, start) = (behind, start + count);
                if start == gradients[tensor].len() {
                    (tensor, start) = (tensor + 1, 0);
                }
            }
        }
        Ok(())
    }

    /// What travelled since the last call.
    pub fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }
}

/// What gradients of so many elements pass through on their way from a device.
pub fn read_ahead(device: &Device, elements: usize) -> ReadAhead {
    ReadAhead::new(device, "transfer/gradients", AHEAD.min(elements.div_ceil(BUCKET)))
}

impl Traffic {
    fn time(&mut self, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.seconds += start.elapsed().as_secs_f64();
    }
}

impl SharedPlan {
    /// What gradients of so many elements take on the host, beside what they pass through.
    pub fn of(device: &Device, ranks: usize, elements: usize) -> Self {
        let (width, share) = (device.precision().bytes(), elements.div_ceil(ranks));
        let buckets_at_hand = if device.computes_apart() { 1 } else { 2 };
        Self {
            ranks,
            sent_bytes: (2 * (ranks - 1) * share * width) as u64,
            host_bytes: ((share + buckets_at_hand * BUCKET.min(elements)) * width) as u64,
        }
    }
}

impl Buckets {
    fn count(self) -> usize {
        self.elements.div_ceil(BUCKET)
    }

    /// The bytes of a bucket that each rank adds up.
    fn shares(self, number: usize) -> Vec<usize> {
        let elements = BUCKET.min(self.elements - number * BUCKET);
        let start = |rank: usize| elements * rank / self.ranks;
        (0..self.ranks).map(|rank| (start(rank + 1) - start(rank)) * self.precision.bytes()).collect()
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
