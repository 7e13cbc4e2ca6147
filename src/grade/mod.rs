//! Tasks: how a word problem is asked, and whether a response has its answer.
//!
//! What the data sets' own evaluators count as right is right here, quirks included, so that rewards and scores can be
//! held against published ones. A response that breaks the format is wrong, never an error.

mod grading;
mod gsm8k;
mod math;
mod normal;
mod rational;
mod task;

pub use grading::{Grading, MathEqual};
pub use task::Task;
