//! The processes that do a job together: one alone, or the ranks that MPI has started (feature `mpi`).
//!
//! Every rank runs the same program over the same inputs. What they share out goes by number, never by who is free, and what they
//! put together is put together in the order of the numbers: N ranks come to the bits of one.

#[cfg(not(feature = "mpi"))]
mod nobody;
#[cfg(feature = "mpi")]
mod team;

use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::{InputFiles, Record};

#[cfg(not(feature = "mpi"))]
use nobody::Team;
#[cfg(feature = "mpi")]
use team::Team;

/// Settings that ranks may have otherwise than the first one: where it writes, and what each computes on.
const MAY_DIFFER: [&str; 3] = ["output", "output_dir", "device"];

/// The ranks of a job, as one of them sees them; clones are of the same one.
#[derive(Clone)]
pub struct Ranks(Option<Arc<Team>>);

/// Bytes of or for each rank, end to end; below 2^31 in all, as MPI counts.
pub struct Parts<'a, B> {
    pub bytes: B,
    /// How many each rank's are.
    pub lengths: &'a [usize],
}

impl Ranks {
    /// A process by itself.
    pub fn alone() -> Self {
        Self(None)
    }

    /// The ranks that this process was started with, by `mpirun` or the like; a process by itself where it was not.
    ///
    /// # Errors
    /// Where MPI cannot be begun with, or this build has none.
    pub fn of_process() -> Result<Self> {
        Ok(Self(Team::of_process()?.map(Arc::new)))
    }

    /// This one's number, from 0.
    pub fn number(&self) -> usize {
        self.0.as_ref().map_or(0, |team| team.number())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |team| team.count())
    }

    /// Whether this is the one that writes files and speaks to the user.
    pub fn is_first(&self) -> bool {
        self.number() == 0
    }

    /// Its number among those of its machine.
    pub fn number_on_machine(&self) -> usize {
        self.0.as_ref().map_or(0, |team| team.number_on_machine())
    }

    /// The name of its machine.
    pub fn machine(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |team| team.machine())
    }

    /// Whether there are others.
    pub fn are_several(&self) -> bool {
        self.count() > 1
    }

    /// The numbers of what this one does of `items` items, which go round.
    pub fn share(&self, items: usize) -> impl Iterator<Item = usize> + use<> {
        (self.number()..items).step_by(self.count())
    }

    /// What `work` makes of each of `items` items, in their order; each is done by one rank, and every rank gets all.
    ///
    /// # Errors
    /// Where `work` fails.
    pub fn deal<T: Serialize + DeserializeOwned>(
        &self,
        items: usize,
        work: impl FnMut(usize) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mine = self.share(items).map(work).collect::<Result<Vec<T>>>()?;
        self.in_order(mine)
    }

    /// What the ranks have of items that were dealt out by number, in the order of the items.
    ///
    /// # Errors
    /// Where something has no form that can be sent.
    pub fn in_order<T: Serialize + DeserializeOwned>(&self, mine: Vec<T>) -> Result<Vec<T>> {
        let mut of_ranks: Vec<_> = self.gather(mine)?.into_iter().map(Vec::into_iter).collect();
        let count = self.count();
        Ok((0..).map_while(|number| of_ranks[number % count].next()).collect())
    }

    /// What each rank has, in the order of the ranks.
    ///
    /// # Errors
    /// Where something has no form that can be sent.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, mine: T) -> Result<Vec<T>> {
        match &self.0 {
            None => Ok(vec![mine]),
            Some(team) => team.gather(&mine),
        }
    }

    /// What the first rank makes; the others make nothing and get it.
    ///
    /// # Errors
    /// Where `make` fails.
    pub fn of_first<T: Serialize + DeserializeOwned>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        match &self.0 {
            None => make(),
            Some(team) => team.of_first(self.is_first().then(make).transpose()?),
        }
    }

    /// Checks that all have the settings and files that the first one has; none goes on before all have been checked.
    ///
    /// # Errors
    /// On the ranks that differ: names the option or the file that is another.
    pub fn agree(&self, record: &Record) -> Result<()> {
        if self.are_several() {
            record.agree(&self.of_first(|| record.text())?, &MAY_DIFFER, "the first rank")?;
            self.wait();
        }
        Ok(())
    }

    /// As [`Ranks::agree`], where nothing else wants a record: a process by itself makes none.
    ///
    /// # Errors
    /// As [`Ranks::agree`], or where a file cannot be read.
    pub fn agree_on(&self, settings: &impl Serialize, inputs: impl FnOnce() -> Result<InputFiles>) -> Result<()> {
        if !self.are_several() {
            return Ok(());
        }
        self.agree(&Record::new(toml::Table::try_from(settings)?, &inputs()?)?)
    }

    /// Whether any rank says so.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn any(&self, mine: bool) -> Result<bool> {
        Ok(self.gather(mine)?.into_iter().any(|said| said))
    }

    /// Hands each rank its bytes of `sent`, and takes what each has for this one.
    pub fn exchange(&self, sent: Parts<&[u8]>, received: Parts<&mut [u8]>) {
        match &self.0 {
            None => received.bytes.copy_from_slice(sent.bytes),
            Some(team) => team.exchange(sent, received),
        }
    }

    /// Hands every rank the same bytes, and takes those of each.
    pub fn gather_parts(&self, mine: &[u8], all: Parts<&mut [u8]>) {
        match &self.0 {
            None => all.bytes.copy_from_slice(mine),
            Some(team) => team.gather_parts(mine, all),
        }
    }

    /// Overwrites the others' bytes by the first rank's; every rank has as many.
    pub fn copy_first(&self, bytes: &mut [u8]) {
        if let Some(team) = &self.0 {
            team.copy_first(bytes);
        }
    }

    /// Waits until every rank is here.
    pub fn wait(&self) {
        if let Some(team) = &self.0 {
            team.wait();
        }
    }

    /// Of a rank that has failed: whether the first one has too, and says why. (What all find wrong is said once.)
    pub fn first_has_failed(&self) -> bool {
        self.0.as_ref().is_none_or(|team| team.first_has_failed())
    }

    /// Ends the job, all ranks of it, with a code; returns where this process is by itself.
    pub fn abort(&self, code: u8) {
        if let Some(team) = &self.0 {
            team.abort(code);
        }
    }
}

/// As messages name this one.
impl std::fmt::Display for Ranks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.number(), self.count())
    }
}
