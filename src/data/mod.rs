//! Rows, templates, tokens, packed batches.

mod batch;
mod columns;
mod examples;
mod guard;
mod limits;
mod lines;
mod pack;
mod pairs;
#[cfg(feature = "parquet")]
mod parquet_rows;
mod problems;
mod rows;
mod template;
mod template_cost;
mod token_ids;
mod tokenizer;
mod tokenizer_cost;

pub use batch::{Capacity, DeviceBatch, DropoutDraw, NewestToken, Sequence, TokenGroups};
pub use columns::Columns;
pub use examples::{AssumedRows, Example, Examples};
pub use limits::ModelLimits;
pub use lines::for_each_row;
pub use pack::{epoch_order, pack};
pub use pairs::{by_prompt, pairs};
pub use problems::{Problem, ProblemFile};
pub use rows::{ROW_FIELDS, Row, RowFile, StepReward, Text};
pub use template::{ChatTemplate, own_template};
pub use token_ids::token_ids;
pub use tokenizer::{TextStream, Tokenizer};
