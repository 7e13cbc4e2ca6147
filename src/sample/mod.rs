//! Generation: batched decoding over a key/value cache, with sequences that join and leave; and what is done with it.

mod generator;
mod rollouts;
mod rows;
mod settings;
mod writer;

pub use generator::{Finish, Generated, Generator, MAX_BATCH, Request, Sizes};
pub use rollouts::{SampleConfig, SampleSummary, sample};
pub use settings::SamplingSettings;
pub use writer::{PolicyFiles, PolicyOptions, Writer};
