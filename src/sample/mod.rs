//! Generation: batched decoding over a key/value cache, with sequences that join and leave.

mod generator;
mod settings;

pub use generator::{Finish, Generated, Generator, MAX_BATCH, Request, Sizes};
pub use settings::SamplingSettings;
