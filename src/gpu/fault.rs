//! What went wrong on a GPU, kept until somebody who can say so asks.

use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};

/// The first fault of a device; later ones follow from it. Clones share it.
#[derive(Clone, Default)]
pub struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    /// Notes a fault, unless there was one before.
    pub fn note(&self, what: String) {
        let mut first = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        first.get_or_insert(what);
    }

    /// Whether there was a fault.
    pub fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).is_some()
    }

    /// # Errors
    /// The first fault, where there was one. It stays: a device that failed once is not believed again.
    pub fn check(&self) -> Result<()> {
        match &*self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(what) => Err(anyhow!("{what}")),
            None => Ok(()),
        }
    }
}
