//! Rows, templates, tokens, packed batches.

mod batch;
mod examples;
mod pack;
mod pairs;
mod problems;
mod rows;
mod template;
mod tokenizer;

pub use batch::{Capacity, DeviceBatch, Sequence, group_by_id};
pub use examples::{Example, Examples};
pub use pack::{epoch_order, pack};
pub use pairs::pairs;
pub use problems::{Problem, ProblemFile};
pub use rows::{Row, RowFile, StepReward, Text};
pub use template::ChatTemplate;
pub use tokenizer::{TextStream, Tokenizer};
