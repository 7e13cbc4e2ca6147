//! The ranks of an MPI job.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Root, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Parts;

/// The ranks, several. MPI ends with it.
pub struct Team {
    world: SimpleCommunicator,
    /// Its number among those of its machine.
    on_machine: usize,
    _universe: Universe,
}

/// What launchers set in the ranks that they start: Open MPI, MPICH and Intel MPI, Slurm with PMIx.
const LAUNCHED: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"];

/// The tag of the first rank's message that it has failed.
const FAILURE: i32 = 1;

/// How much later than one rank another may find the same fault.
const MOMENT: Duration = Duration::from_secs(1);

/// Bytes that one call sends at most: MPI counts in 31 bits.
const PIECE: usize = 1 << 26;

impl Team {
    /// The ranks that were started with this process; `None` where there are no others.
    pub fn of_process() -> Result<Option<Self>> {
        if LAUNCHED.iter().all(|name| std::env::var_os(name).is_none()) {
            return Ok(None);
        }
        let universe = mpi::initialize().context("MPI cannot be begun with")?;
        let world = universe.world();
        let on_machine = world.split_shared(world.rank()).rank() as usize;
        Ok((world.size() > 1).then_some(Self { world, on_machine, _universe: universe }))
    }

    pub fn number(&self) -> usize {
        self.world.rank() as usize
    }

    pub fn count(&self) -> usize {
        self.world.size() as usize
    }

    pub fn number_on_machine(&self) -> usize {
        self.on_machine
    }

    pub fn machine(&self) -> String {
        mpi::environment::processor_name().unwrap_or_default()
    }

    pub fn gather<T: Serialize + DeserializeOwned>(&self, mine: &T) -> Result<Vec<T>> {
        let mine = postcard::to_stdvec(mine)?;
        let read = |bytes: Vec<u8>| postcard::from_bytes(&bytes).context("what a rank sent cannot be read");
        self.gather_bytes(&mine).into_iter().map(read).collect()
    }

    /// `made` is the first rank's.
    pub fn of_first<T: Serialize + DeserializeOwned>(&self, made: Option<T>) -> Result<T> {
        let mut bytes = made.as_ref().map(postcard::to_stdvec).transpose()?.unwrap_or_default();
        let mut length = [bytes.len() as u64];
        self.world.process_at_rank(0).broadcast_into(&mut length);
        bytes.resize(length[0] as usize, 0);
        self.copy_first(&mut bytes);
        match made {
            Some(made) => Ok(made),
            None => postcard::from_bytes(&bytes).context("what the first rank sent cannot be read"),
        }
    }

    pub fn copy_first(&self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(PIECE) {
            self.world.process_at_rank(0).broadcast_into(piece);
        }
    }

    /// What each rank sends: any number of bytes.
    fn gather_bytes(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        let mut lengths = vec![0u64; self.count()];
        self.world.all_gather_into(&[mine.len() as u64], &mut lengths);
        let mut gathered: Vec<Vec<u8>> = lengths.iter().map(|&length| Vec::with_capacity(length as usize)).collect();
        let piece = PIECE / self.count();
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        let mut received = Vec::new();
        for first in (0..longest).step_by(piece) {
            let part = |length: usize| first.min(length)..(first + piece).min(length);
            let lengths: Vec<usize> = lengths.iter().map(|&length| part(length as usize).len()).collect();
            received.resize(lengths.iter().sum(), 0);
            self.gather_parts(&mine[part(mine.len())], Parts { bytes: &mut received, lengths: &lengths });
            let mut rest = &received[..];
            for (gathered, length) in gathered.iter_mut().zip(lengths) {
                gathered.extend(rest.split_off(..length).unwrap_or_default());
            }
        }
        gathered
    }

    pub fn gather_parts(&self, mine: &[u8], all: Parts<&mut [u8]>) {
        let mut all = PartitionMut::new(all.bytes, in_mpi(all.lengths), starts(all.lengths));
        self.world.all_gather_varcount_into(somewhere(mine), &mut all);
    }

    pub fn exchange(&self, sent: Parts<&[u8]>, received: Parts<&mut [u8]>) {
        let sent = Partition::new(somewhere(sent.bytes), in_mpi(sent.lengths), starts(sent.lengths));
        let mut nothing = [0; 1];
        let place = if received.bytes.is_empty() { &mut nothing[..0] } else { received.bytes };
        let mut received = PartitionMut::new(place, in_mpi(received.lengths), starts(received.lengths));
        self.world.all_to_all_varcount_into(&sent, &mut received);
    }

    /// The first rank tells the others that it has failed; another one hears whether it has, within a moment.
    pub fn first_has_failed(&self) -> bool {
        if self.number() == 0 {
            let told = |rank: usize| self.world.process_at_rank(rank as i32).send_with_tag(&[0u8], FAILURE);
            (1..self.count()).for_each(told);
            return true;
        }
        let start = Instant::now();
        while start.elapsed() < MOMENT {
            if self.world.process_at_rank(0).immediate_probe_with_tag(FAILURE).is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub fn wait(&self) {
        self.world.barrier();
    }

    pub fn abort(&self, code: u8) -> ! {
        self.world.abort(code.into())
    }
}

impl Drop for Team {
    /// MPI ends when every rank ends it: one that panics would wait for the others, and they for it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.world.abort(1);
        }
    }
}

/// Numbers below [`PIECE`], as MPI counts.
fn in_mpi(counts: &[usize]) -> Vec<i32> {
    counts.iter().map(|&count| count as i32).collect()
}

/// Where parts of these lengths start when they stand end to end.
fn starts(counts: &[usize]) -> Vec<i32> {
    let mut start = 0;
    let start_of = |&count: &usize| {
        let this = start;
        start += count as i32;
        this
    };
    counts.iter().map(start_of).collect()
}

/// Bytes, at an address of their own where they are none: Open MPI's MPI_IN_PLACE is the address that Rust gives nothing.
fn somewhere(bytes: &[u8]) -> &[u8] {
    static SOMEWHERE: [u8; 1] = [0];
    if bytes.is_empty() { &SOMEWHERE[..0] } else { bytes }
}
