//! What the MLP works in. Its tensors are the widest of a layer: with gradient checkpointing, where they are computed again anyway,
//! it goes over many tokens by blocks of rows, which share them.

use anyhow::Result;

use super::build::Build;
use super::keep::Keep;
use crate::device::Tensor;

/// Values of a block, about: enough that each product still fills a GPU.
const BLOCK_VALUES: usize = 8 << 20;

/// Blocks are whole tiles of products.
const TILE_ROWS: usize = 64;

/// The size of the MLP's tensors.
#[derive(Clone, Copy)]
pub struct MlpRoom {
    tokens: usize,
    /// Tokens at a time.
    rows: usize,
    /// The MLP's, or what it takes for attention's gradients to find room in the same tensors afterwards.
    cols: usize,
}

/// What both passes work in; shared by all layers.
pub struct MlpScratch {
    /// `[rows, intermediate]`
    pub act: Tensor,
    /// Only where the MLP goes by blocks.
    pub block: Option<Block>,
}

/// Some rows of what goes in and out, `[rows, hidden]` each.
pub struct Block {
    pub rows: usize,
    pub x: Tensor,
    /// The output, or its gradient.
    pub y: Tensor,
    pub dx: Tensor,
}

impl MlpRoom {
    /// For passes over `tokens` that keep so much.
    pub fn new(build: &Build, tokens: usize, keep: Keep) -> Self {
        let config = build.config;
        let most = (BLOCK_VALUES / config.intermediate_size).max(TILE_ROWS);
        // A norm of the MLP's output needs all of it before the backward pass can begin.
        let by_blocks = matches!(keep, Keep::LayerInputs(_)) && !config.output_norms && tokens > most;
        let rows = if by_blocks { tokens.div_ceil(tokens.div_ceil(most)).next_multiple_of(TILE_ROWS) } else { tokens };
        let of_attention = if keep == Keep::Nothing { 0 } else { tokens * config.heads.heads * config.heads.head_dim };
        let cols = config.intermediate_size.max(of_attention.div_ceil(rows.max(1)).next_multiple_of(4));
        Self { tokens, rows, cols }
    }

    /// The shape of a tensor that holds `[rows, intermediate]` and, later, `[tokens, heads, head_dim]`.
    pub fn shape(self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// How many tokens a layer has.
    pub fn tokens(self) -> usize {
        self.tokens
    }
}

impl MlpScratch {
    /// Room for a batch.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, room: MlpRoom) -> Result<Self> {
        let act = build.scratch("act", &room.shape())?;
        let block = if room.rows < room.tokens { Some(Block::new(build, room.rows)?) } else { None };
        Ok(Self { act, block })
    }
}

impl Block {
    fn new(build: &Build, rows: usize) -> Result<Self> {
        let tensor = |name: &str| build.scratch(&format!("mlp_block/{name}"), &[rows, build.config.hidden_size]);
        Ok(Self { rows, x: tensor("x")?, y: tensor("y")?, dx: tensor("dx")? })
    }
}
