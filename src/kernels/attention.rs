//! Causal attention over packed sequences with grouped heads, forward: as in FlashAttention (Dao et al. 2022) only the
//! logarithm of each row's sum is kept, and no matrix of tokens by tokens exists.

use std::ops::Range;

use rayon::prelude::*;

use super::variants::only;
use crate::device::{Device, Kernel, Matrix, MatrixMut, Real, Tensor, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

pub(super) const ATTENTION_TILES: &str = include_str!("../../shaders/shared/attention_tiles.wgsl");

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/attention.wgsl"), &[ATTENTION_TILES]);

/// Tokens of a tile: the unit in which a long batch is cut into dispatches.
pub const TILE: usize = 32;

/// The largest `head_dim` of the GPU's kernels.
pub const MAX_HEAD_DIM: usize = 256;

/// Tiles of 32 x 32 values of keys or queries that an invocation may walk where loops are cut short: llvmpipe ends all of
/// an invocation's loops after 65535 rounds together, and a tile takes up to 128 of them.
pub const MAX_TILES: usize = 512;

/// The sizes of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values a head; a multiple of 4, at most [`MAX_HEAD_DIM`].
    pub head_dim: usize,
}

impl Heads {
    /// `1 / sqrt(head_dim)`
    pub fn scale(self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }

    /// Tiles of 32 x 32 values in one head of `tokens` keys.
    pub(super) fn tiles(self, tokens: usize) -> usize {
        tokens.div_ceil(TILE) * self.head_dim.div_ceil(TILE)
    }

    /// The longest sequence with at most [`MAX_TILES`] tiles.
    pub fn longest_of_max_tiles(self) -> usize {
        MAX_TILES / self.tiles(1) * TILE
    }
}

kernel! {
    /// `s = scale q . k` over the keys of the token's own sequence up to itself, `lse = log sum exp(s)`,
    /// `o = sum exp(s - lse) v`.
    pub struct Attention in "attention" of VARIANTS {
        /// `[tokens, 2]`: where the token's sequence starts and ends.
        read bounds,
        /// `[tokens, heads, head_dim]`
        read q,
        /// `[tokens, kv_heads, head_dim]`
        read k,
        /// `[tokens, kv_heads, head_dim]`
        read v,
        /// `[tokens, heads, head_dim]`
        write o,
        /// `[tokens, heads]`
        write lse,
        ;
        tokens: u32,
        heads: u32,
        kv_heads: u32,
        scale: f32,
        /// The first tile of 32 queries to compute.
        first_tile: u32,
        ;
        /// How many tiles to compute.
        tiles: u32,
        /// Values a head.
        head_dim: u32,
    }
}

/// Calls `part(first, count)` for runs of tiles that are each short enough for one dispatch, where a tile takes at
/// most `flops`.
pub(super) fn for_tile_runs(tokens: usize, flops: f64, mut part: impl FnMut(u32, u32)) {
    let tiles = tokens.div_ceil(TILE);
    let run = Cost { flops, bytes: 0.0 }.per_dispatch(tiles);
    for first in (0..tiles).step_by(run) {
        part(first as u32, run.min(tiles - first) as u32);
    }
}

impl<'a> Attention<'a> {
    /// Attention over `tokens` tokens whose longest sequence has `longest`, in as many dispatches as that needs.
    pub fn run(
        device: &Device,
        heads: Heads,
        (tokens, longest): (usize, usize),
        bounds: &'a Tensor,
        (q, k, v): (&'a Tensor, &'a Tensor, &'a Tensor),
        (o, lse): (&'a mut Tensor, &'a mut Tensor),
    ) {
        let flops = 4.0 * (TILE * longest * heads.heads * heads.head_dim) as f64;
        for_tile_runs(tokens, flops, |first_tile, tiles| {
            device.run(Attention {
                bounds,
                q,
                k,
                v,
                o: &mut *o,
                lse: &mut *lse,
                tokens: tokens as u32,
                heads: heads.heads as u32,
                kv_heads: heads.kv_heads as u32,
                scale: heads.scale(),
                first_tile,
                tiles,
                head_dim: heads.head_dim as u32,
            });
        });
    }
}

/// Checks what all attention kernels share.
pub(super) fn check_heads<K: Kernel>(
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    first_tile: u32,
    tiles: u32,
) {
    let name = K::SIGNATURE.name;
    assert!(heads.is_multiple_of(kv_heads), "{name}: {kv_heads} key heads do not divide {heads} heads");
    assert!(head_dim.is_multiple_of(4) && head_dim as usize <= MAX_HEAD_DIM, "{name}: head_dim {head_dim}");
    assert!((first_tile + tiles) as usize <= (tokens as usize).div_ceil(TILE), "{name}: tiles behind the last token");
}

/// The launch of a kernel that works tile by tile for each of `heads`.
pub(super) fn launch_tiles(
    variant: &'static Variant,
    tiles: u32,
    heads: u32,
    head_dim: u32,
    flops_a_tile: f64,
) -> Launch {
    Launch {
        variant,
        constants: vec![("HEAD_DIM", f64::from(head_dim))],
        workgroups: [tiles, heads, 1],
        cost: Cost { flops: flops_a_tile * f64::from(tiles), bytes: 0.0 },
    }
}

/// Rows that a twin takes at once.
const BLOCK: usize = 64;

/// A run of at most [`BLOCK`] tokens of one sequence.
pub(super) struct Block {
    pub rows: Range<usize>,
    pub sequence: Range<usize>,
}

/// Cuts the tokens of some tiles into blocks that each lie in one sequence.
pub(super) fn blocks(bounds: &[u32], tokens: u32, first_tile: u32, tiles: u32) -> Vec<Block> {
    let end = ((first_tile + tiles) as usize * TILE).min(tokens as usize);
    let mut row = first_tile as usize * TILE;
    let mut blocks = Vec::new();
    while row < end {
        let sequence = bounds[2 * row] as usize..bounds[2 * row + 1] as usize;
        let rows = row..(row + BLOCK).min(sequence.end).min(end);
        row = rows.end;
        blocks.push(Block { rows, sequence });
    }
    blocks
}

/// Splits rows of `width` values into the parts that the blocks own; the blocks are in order and leave no gap.
pub(super) fn split_rows<'a, T>(data: &'a mut [T], blocks: &[Block], width: usize) -> Vec<&'a mut [T]> {
    let first = blocks.first().map_or(0, |block| block.rows.start);
    let mut rest = &mut data[first * width..];
    let mut parts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (part, after) = rest.split_at_mut(block.rows.len() * width);
        parts.push(part);
        rest = after;
    }
    parts
}

/// One head of a tensor `[tokens, heads, head_dim]`, from a row on, as an operand.
pub(super) fn head_rows<T>(data: &[T], row: usize, head: usize, heads: usize, dim: usize) -> Matrix<'_, T> {
    Matrix { data: &data[(row * heads + head) * dim..], row_stride: heads * dim, col_stride: 1 }
}

impl<'a, T> Matrix<'a, T> {
    /// A whole row-major array of rows of `cols`.
    pub(super) fn row_major(data: &'a [T], cols: usize) -> Self {
        Matrix { data, row_stride: cols, col_stride: 1 }
    }
}

impl<'a, T> MatrixMut<'a, T> {
    /// A whole row-major array of rows of `cols`.
    pub(super) fn row_major(data: &'a mut [T], cols: usize) -> Self {
        let rows = data.len() / cols;
        MatrixMut { data, rows, cols, row_stride: cols }
    }
}

impl Kernel for Attention<'_> {
    fn check(&self) {
        check_heads::<Self>(self.tokens, self.heads, self.kv_heads, self.head_dim, self.first_tile, self.tiles);
        let (tokens, dim) = (self.tokens as usize, self.head_dim as usize);
        reaches::<Self>(self.bounds, 2 * tokens);
        reaches::<Self>(self.q, tokens * self.heads as usize * dim);
        reaches::<Self>(self.k, tokens * self.kv_heads as usize * dim);
        reaches::<Self>(self.v, tokens * self.kv_heads as usize * dim);
        reaches::<Self>(self.o, tokens * self.heads as usize * dim);
        reaches::<Self>(self.lse, tokens * self.heads as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let flops = 4.0 * TILE as f64 * f64::from(self.tokens) * f64::from(self.heads * self.head_dim);
        launch_tiles(&VARIANTS[0], self.tiles, self.heads, self.head_dim, flops)
    }

    fn twin<T: Real>(&mut self) {
        let (heads, kv_heads, dim) = (self.heads as usize, self.kv_heads as usize, self.head_dim as usize);
        let scale = T::of(self.scale.into());
        let blocks = blocks(self.bounds.u32s(), self.tokens, self.first_tile, self.tiles);
        let (q, k, v) = (self.q.real::<T>(), self.k.real::<T>(), self.v.real::<T>());
        let o = split_rows(self.o.real_mut::<T>(), &blocks, heads * dim);
        let lse = split_rows(self.lse.real_mut::<T>(), &blocks, heads);
        blocks.into_par_iter().zip(o).zip(lse).for_each(|((block, o), lse)| {
            let (first, count, keys) = (block.rows.start, block.rows.len(), block.rows.end - block.sequence.start);
            let mut scores = vec![T::zero(); count * keys];
            for head in 0..heads {
                let kv_head = head / (heads / kv_heads);
                let k = head_rows(k, block.sequence.start, kv_head, kv_heads, dim);
                let v = head_rows(v, block.sequence.start, kv_head, kv_heads, dim);
                let s = MatrixMut::row_major(&mut scores, keys);
                T::gemm(s, head_rows(q, first, head, heads, dim), k.transposed(), dim, false);
                for (row, s) in scores.chunks_mut(keys).enumerate() {
                    let (seen, hidden) = s.split_at_mut(keys - count + row + 1);
                    let largest = seen.iter().copied().reduce(T::max).unwrap_or(T::zero());
                    let mut sum = T::zero();
                    for s in &mut *seen {
                        *s = (scale * (*s - largest)).exp();
                        sum += *s;
                    }
                    seen.iter_mut().for_each(|s| *s /= sum);
                    hidden.fill(T::zero());
                    lse[row * heads + head] = scale * largest + sum.ln();
                }
                let o = MatrixMut { data: &mut o[head * dim..], rows: count, cols: dim, row_stride: heads * dim };
                T::gemm(o, Matrix::row_major(&scores, keys), v, keys, false);
            }
        });
    }
}
