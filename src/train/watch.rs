//! Who watches a run: what it is shown, and how it is stopped.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::progress::{Progress, say};

/// A run's watcher.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    interrupt: &'a AtomicBool,
    is_silent: bool,
}

impl<'a> Watch<'a> {
    /// One that reads stderr; the flag stops the run after its step.
    pub fn on_stderr(interrupt: &'a AtomicBool) -> Self {
        Self { interrupt, is_silent: false }
    }

    /// One that is told nothing.
    pub fn silent(interrupt: &'a AtomicBool) -> Self {
        Self { interrupt, is_silent: true }
    }

    /// Whether the run is to stop.
    pub fn has_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Something to know before the run begins.
    pub fn say(&self, line: impl Display) {
        if !self.is_silent {
            say(line);
        }
    }

    /// A task of `total` parts of which `done` are done.
    pub fn progress(&self, title: impl Into<String>, total: usize, done: usize) -> Progress {
        if self.is_silent { Progress::silent() } else { Progress::new(title, total, done) }
    }
}
