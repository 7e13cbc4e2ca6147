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

/// The most linear layers that read the same input: queries, keys and values.
const LARGEST_GROUP: usize = 3;

/// What linear layers and norms work in, one at a time.
pub struct SharedScratch {
    /// `[tokens, r]` of layers that read the same input; only where there are adapters.
    low_ranks: Vec<Tensor>,
    /// What is bound where a group of layers has fewer than the kernel has room for.
    nothing: Tensor,
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
        let low_rank = |index: usize, r: usize| {
            let name = if index == 0 { "low_rank".to_owned() } else { format!("low_rank[{index}]") };
            build.scratch(&name, &[tokens, r.next_multiple_of(4)])
        };
        let low_ranks = build.low_rank().map(|r| (0..LARGEST_GROUP).map(|index| low_rank(index, r)).collect());
        let q_size = config.heads.heads * config.heads.head_dim;
        let widest = config.hidden_size.max(config.intermediate_size).max(q_size);
        // A head norm sums over tokens * heads rows of head_dim: never more values than tokens rows of the widest.
        let blocks = (tokens.div_ceil(BLOCK_ROWS) + 1) * widest;
        Ok(Self {
            low_ranks: low_ranks.transpose()?.unwrap_or_default(),
            nothing: build.scratch("nothing", &[4])?,
            partial: if keep == Keep::Nothing { None } else { Some(build.scratch("partial", &[blocks])?) },
        })
    }

    /// The product of rank `r` of a linear layer's adapters.
    ///
    /// # Panics
    /// Where it was made for a network without adapters.
    pub fn low_rank(&mut self) -> &mut Tensor {
        self.low_ranks.first_mut().expect("the scratch of a network with adapters")
    }

    /// The products of rank `r` of the adapters of layers that read the same input (none without adapters), and what stands in
    /// for a layer that is not there.
    pub fn low_ranks(&mut self) -> (&mut [Tensor], &mut Tensor) {
        (&mut self.low_ranks, &mut self.nothing)
    }

    /// What is bound where a layer of a group is not there.
    pub fn nothing(&mut self) -> &mut Tensor {
        &mut self.nothing
    }

    /// [`SharedScratch::low_rank`] and [`SharedScratch::partial`].
    ///
    /// # Panics
    /// Where it was made for a network without adapters, or for a forward pass alone.
    pub fn low_rank_and_partial(&mut self) -> (&mut Tensor, &mut Tensor) {
        let low_rank = self.low_ranks.first_mut().expect("the scratch of a network with adapters");
        (low_rank, self.partial.as_mut().expect("scratch for a backward pass"))
    }

    /// Partial sums over blocks of rows.
    ///
    /// # Panics
    /// Where it was made for a forward pass alone.
    pub fn partial(&mut self) -> &mut Tensor {
        self.partial.as_mut().expect("scratch for a backward pass")
    }
}
