//! Generation: batched decoding over a key/value cache, with sequences that join and leave; and what is done with it.

mod asked;
mod conversation;
mod eval;
mod generator;
mod process_reward;
mod regrade;
mod rollouts;
mod rows;
mod segments;
mod settings;
mod writer;

pub use asked::AskedProblems;
pub use conversation::{Conversation, ConversationPrompt};
pub use eval::{EvalConfig, EvalSummary, Evaluation, Prediction, Score, eval, standard_error, wilson};
pub use generator::{Finish, Generated, Generator, MAX_BATCH, Request, Sizes};
pub use process_reward::{ProcessRewardConfig, ProcessRewardSummary, process_reward};
pub use regrade::{GradeSummary, grade_file};
pub use rollouts::{Rollout, SampleConfig, SampleSummary, sample};
pub use segments::{Segment, segments, split, split_lines};
pub use settings::SamplingSettings;
pub use writer::{PolicyOptions, Writer};
