//! In a build without MPI there are no other ranks.

use anyhow::{Result, ensure};

use super::Parts;

/// Nobody: there is no value of it.
pub enum Team {}

/// How launchers tell a process the number of ranks: Open MPI, then MPICH and Intel MPI.
const COUNTS: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

impl Team {
    /// None; but several processes that do not know of each other would do the same work over each other.
    pub fn of_process() -> Result<Option<Self>> {
        let count = COUNTS.iter().filter_map(|name| std::env::var(name).ok()?.parse::<usize>().ok()).max().unwrap_or(1);
        ensure!(
            count == 1,
            "this is one of {count} ranks, and this build knows nothing of MPI; build it with --features mpi, or start it once"
        );
        Ok(None)
    }

    pub fn number(&self) -> usize {
        match *self {}
    }

    pub fn count(&self) -> usize {
        match *self {}
    }

    pub fn number_on_machine(&self) -> usize {
        match *self {}
    }

    pub fn machine(&self) -> String {
        match *self {}
    }

    pub fn gather<T>(&self, _: &T) -> Result<Vec<T>> {
        match *self {}
    }

    pub fn of_first<T>(&self, _: Option<T>) -> Result<T> {
        match *self {}
    }

    pub fn exchange(&self, _: Parts<&[u8]>, _: Parts<&mut [u8]>) {
        match *self {}
    }

    pub fn gather_parts(&self, _: &[u8], _: Parts<&mut [u8]>) {
        match *self {}
    }

    pub fn copy_first(&self, _: &mut [u8]) {
        match *self {}
    }

    pub fn first_has_failed(&self) -> bool {
        match *self {}
    }

    pub fn wait(&self) {
        match *self {}
    }

    pub fn abort(&self, _: u8) -> ! {
        match *self {}
    }
}
