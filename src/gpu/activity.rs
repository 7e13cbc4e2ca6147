//! What a GPU was given to do.

use std::ops::Sub;

/// What was recorded for a GPU since it was opened; the difference of two is what was between them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    pub dispatches: u64,
    pub submissions: u64,
    /// Seconds for which the host waited for the GPU.
    pub seconds_waiting: f64,
}

impl Sub for Activity {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            dispatches: self.dispatches - before.dispatches,
            submissions: self.submissions - before.submissions,
            seconds_waiting: self.seconds_waiting - before.seconds_waiting,
        }
    }
}
