//! What a pass over a batch takes from layer to layer.

use std::ops::Range;

use anyhow::Result;

use super::build::Build;
use super::cache::InCache;
use super::keep::Keep;
use super::mlp_room::MlpRoom;
use super::parameter::Parameter;
use crate::data::DeviceBatch;
use crate::device::{DType, Device, Tensor, word};
use crate::kernels::{BLOCK_ROWS, CopyRows, RoundBf16, SplitRoom, WidenBf16};

/// Hears of weights as soon as a backward pass has their gradients whole.
pub type Finished<'a> = &'a mut dyn FnMut(&mut dyn Iterator<Item = &mut Parameter>);

/// What every layer of a pass shares.
pub struct Pass<'a> {
    pub device: &'a Device,
    pub batch: &'a DeviceBatch,
    /// The batch's tokens that linear layers compute, a row each: all, or a block of them at a time.
    pub rows: Range<usize>,
    /// Where the keys and values of the batch's tokens are kept, where they are.
    pub cache: Option<InCache<'a>>,
    pub scratch: &'a mut SharedScratch,
}

impl Pass<'_> {
    /// `y = x` rounded to bf16, of the batch's tokens.
    pub fn round(&self, x: &Tensor, y: &mut Tensor) {
        let count = self.values(x);
        self.device.run(RoundBf16 { x, y, count });
    }

    /// `y = x`, of bf16 and of the batch's tokens.
    pub fn widen(&self, x: &Tensor, y: &mut Tensor) {
        let count = self.values(x);
        self.device.run(WidenBf16 { x, y, count });
    }

    /// Block after block of the pass's rows, of so many each.
    pub fn by_blocks(&mut self, rows: usize, mut compute: impl FnMut(&mut Self)) {
        let all = self.rows.clone();
        for first in all.clone().step_by(rows) {
            self.rows = first..all.end.min(first + rows);
            compute(self);
        }
        self.rows = all;
    }

    /// `block = x` of the pass's rows.
    pub fn take_rows(&self, x: &Tensor, block: &mut Tensor) {
        self.copy_rows(x, block, [self.rows.start, 0]);
    }

    /// `y = block` of the pass's rows.
    pub fn put_rows(&self, block: &Tensor, y: &mut Tensor) {
        self.copy_rows(block, y, [0, self.rows.start]);
    }

    fn copy_rows(&self, x: &Tensor, y: &mut Tensor, firsts: [usize; 2]) {
        let [rows, cols] = [self.rows.len(), x.shape()[1]].map(word);
        let [first_x, first_y] = firsts.map(word);
        self.device.run(CopyRows { x, y, rows, cols, first_x, first_y });
    }

    /// The values of a tensor that belong to the batch's tokens.
    fn values(&self, x: &Tensor) -> u32 {
        word(self.batch.tokens * x.shape()[1..].iter().product::<usize>())
    }
}

/// The most linear layers that read the same input: queries, keys and values.
const LARGEST_GROUP: usize = 3;

/// What linear layers and norms work in, one at a time.
pub struct SharedScratch {
    /// `[tokens, r]` of layers that read the same input; only where there are adapters.
    low_ranks: Vec<Tensor>,
    /// `[rows, in]` of the layer with most: what dropout has left of an adapter's input; only to train with dropout.
    dropped: Option<Tensor>,
    /// What is bound where a group of layers has fewer than the kernel has room for.
    nothing: [Tensor; 2],
    /// Partial sums over blocks of rows, of the widest layer; only for a backward pass.
    partial: Option<Tensor>,
    /// Parts of queries, keys, values and their output's gradient; only where attention's products are not as precise as can be.
    split_heads: Option<SplitRoom>,
}

/// What adapters work in.
pub struct AdapterScratch<'a> {
    /// `[tokens, r]` of each layer that reads the same input; none where there are no adapters.
    pub hs: &'a mut [Tensor],
    /// What stands in for a layer that is not there.
    pub nothing: &'a mut Tensor,
    /// `[rows, in]`: what dropout has left of a layer's input; only where it leaves out some.
    pub dropped: Option<&'a mut Tensor>,
    partial: Option<&'a mut Tensor>,
}

/// What the backward pass of one layer's adapters works in.
pub struct AdapterBackwardScratch<'a> {
    /// `[tokens, r]`
    pub dh: &'a mut Tensor,
    /// As of [`AdapterScratch`].
    pub dropped: Option<&'a mut Tensor>,
    /// Partial sums over blocks of rows.
    pub partial: &'a mut Tensor,
}

impl<'a> AdapterScratch<'a> {
    /// The part of it that a layer's backward pass takes.
    ///
    /// # Panics
    /// Where it was made for a network without adapters, or for a forward pass alone.
    pub fn backward(self) -> AdapterBackwardScratch<'a> {
        AdapterBackwardScratch {
            dh: self.hs.first_mut().expect("the scratch of a network with adapters"),
            dropped: self.dropped,
            partial: self.partial.expect("scratch for a backward pass"),
        }
    }
}

impl SharedScratch {
    /// Room for a batch.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, room: MlpRoom, keep: Keep) -> Result<Self> {
        let (config, tokens) = (build.config, room.tokens());
        let low_rank = |index: usize, r: usize| {
            let name = if index == 0 { "low_rank".to_owned() } else { format!("low_rank[{index}]") };
            build.scratch(&name, &[tokens, r.next_multiple_of(4)])
        };
        let low_ranks = build.low_rank().map(|r| (0..LARGEST_GROUP).map(|index| low_rank(index, r)).collect());
        let q_size = config.heads.heads * config.heads.head_dim;
        let widest = config.hidden_size.max(config.intermediate_size).max(q_size);
        // A head norm sums over tokens * heads rows of head_dim: never more values than tokens rows of the widest.
        let blocks = (tokens.div_ceil(BLOCK_ROWS) + 1) * widest;
        let of_attention = tokens * config.hidden_size.max(q_size);
        let dropped = || build.scratch("dropped", &[of_attention.max(room.shape().into_iter().product())]);
        let parts = |name: &str, words| build.kept(&format!("scratch/{name}"), &[words], DType::U32);
        let has_gradient = keep != Keep::Nothing;
        let drops = build.has_dropout() && has_gradient;
        Ok(Self {
            low_ranks: low_ranks.transpose()?.unwrap_or_default(),
            dropped: if drops { Some(dropped()?) } else { None },
            nothing: [build.scratch("nothing", &[4])?, build.scratch("nothing[1]", &[4])?],
            partial: if has_gradient { Some(build.scratch("partial", &[blocks])?) } else { None },
            split_heads: SplitRoom::new(build.device, config.heads, tokens, has_gradient, parts)?,
        })
    }

    /// What the adapters of layers that read the same input work in; `drops` where some of the input is left out.
    pub fn of_adapters(&mut self, drops: bool) -> AdapterScratch<'_> {
        let Self { low_ranks, dropped, nothing: [nothing, _], partial, .. } = self;
        AdapterScratch {
            hs: low_ranks,
            nothing,
            dropped: dropped.as_mut().filter(|_| drops),
            partial: partial.as_mut(),
        }
    }

    /// What is bound where a layer of a group is not there.
    pub fn nothing(&mut self) -> &mut Tensor {
        &mut self.nothing[0]
    }

    /// As [`SharedScratch::nothing`], where two are not there.
    pub fn nothings(&mut self) -> [&mut Tensor; 2] {
        self.nothing.each_mut()
    }

    /// Room for the parts of what attention multiplies, where it splits any.
    pub fn split_heads(&mut self) -> Option<&mut SplitRoom> {
        self.split_heads.as_mut()
    }

    /// Partial sums over blocks of rows.
    ///
    /// # Panics
    /// Where it was made for a forward pass alone.
    pub fn partial(&mut self) -> &mut Tensor {
        self.partial.as_mut().expect("scratch for a backward pass")
    }
}
