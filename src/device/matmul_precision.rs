//! How precise large products are to be.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How precise large matrix products are to be; of small ones, which gain nothing, all are [`Highest`](Self::Highest).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatmulPrecision {
    /// f32
    #[default]
    Highest,
    /// Two f16 a value, added in f32: an error of 2^-20 of the norms of row and column at most
    High,
    /// One f16 a value, added in f32: 2^-10 of the norms
    Medium,
}

/// The most rows and columns, together, of a product that is not [`MatmulPrecision::Highest`]: there is room for the largest
/// magnitude of each.
pub const MAGNITUDES: usize = 1 << 20;

/// What that room is called, and its bytes.
pub(super) const ROOM: &str = "products/magnitudes";
pub(super) const ROOM_BYTES: u64 = 4 * MAGNITUDES as u64;

impl fmt::Display for MatmulPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Highest => "highest",
            Self::High => "high",
            Self::Medium => "medium",
        })
    }
}
