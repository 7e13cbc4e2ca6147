//! `demo`: the whole loop on an embedded model and task.

mod run;
mod sums;

pub use run::{DemoConfig, DemoResult, run};
