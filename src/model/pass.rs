//! What a pass over a batch takes from layer to layer.

use anyhow::Result;

use super::build::Build;
use super::cache::InCache;
use super::keep::Keep;
use crate::data::DeviceBatch;
use crate::device::{Device, Tensor};
use crate::kernels::BLOCK_ROWS;

/// What every layer of a pass shares.
pub struct Pass<'a> {
    pub device: &'a Device,
    pub batch: &'a DeviceBatch,
    /// Where the keys and values of the batch's tokens are kept, where they are.
    pub cache: Option<InCache<'a>>,
    pub scratch: &'a mut SharedScratch,
}

/// What linear layers and norms work in, one at a time.
pub struct SharedScratch {
    /// `[tokens, r]`; only where there are adapters.
    low_rank: Option<Tensor>,
    /// Partial sums over blocks of rows, of the widest layer; only for a backward pass.
    partial: Option<Tensor>,
}

impl SharedScratch {
    /// Room for `tokens`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize, keep: Keep) -> Result<Self> {
        let config = build.config;
        let low_rank = |r: usize| build.scratch("low_rank", &[tokens, r.next_multiple_of(4)]);
        let q_size = config.heads.heads * config.heads.head_dim;
        let widest = config.hidden_size.max(config.intermediate_size).max(q_size);
        // A head norm sums over tokens * heads rows of head_dim: never more values than tokens rows of the widest.
        let blocks = (tokens.div_ceil(BLOCK_ROWS) + 1) * widest;
        Ok(Self {
            low_rank: build.low_rank().map(low_rank).transpose()?,
            partial: if keep == Keep::Nothing { None } else { Some(build.scratch("partial", &[blocks])?) },
        })
    }

    /// The products of rank `r` of a linear layer's adapters.
    ///
    /// # Panics
    /// Where it was made for a network without adapters.
    pub fn low_rank(&mut self) -> &mut Tensor {
        self.low_rank.as_mut().expect("the scratch of a network with adapters")
    }

    /// Partial sums over blocks of rows.
    ///
    /// # Panics
    /// Where it was made for a forward pass alone.
    pub fn partial(&mut self) -> &mut Tensor {
        self.partial.as_mut().expect("scratch for a backward pass")
    }
}
