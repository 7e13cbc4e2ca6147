//! Causal attention over packed sequences with grouped heads, forward: as in FlashAttention (Dao et al. 2022) only the
//! logarithm of each row's sum is kept, and no matrix of tokens by tokens exists.

use std::ops::{Range, RangeInclusive};

use rayon::prelude::*;

use super::attention_texts::{SCORES, TEXTS, text_on_matrices, texts};
use super::halves::RoundedWeights;
use super::products::FEW_ROWS;
use super::split_heads::{HeadRows, MAX_SPLIT_HEADS, Split};
use super::tiles::matrices_constants;
use crate::device::{
    Device, Kernel, MatmulPrecision, MatrixMut, Real, Tensor, kernel, largest, reaches, sum_over, vectorized, word,
};
use crate::gpu::{Cost, Launch, Rates, Traits, Variant};

static VARIANTS: [Variant; TEXTS] = texts!(
    "attention",
    [include_str!("../../shaders/shared/attention_tiles_forward.wgsl")],
    [SCORES, include_str!("../../shaders/shared/attention_matrices_forward.wgsl")]
);

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
    /// `1 / sqrt(head_dim)`: what scores are multiplied by, where a model does not say otherwise.
    pub fn scale(self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }

    /// How precise the products of attention are on a device, where a tile sees so many tokens: large ones are so as they are asked to.
    pub(super) fn precision(self, device: &Device, reach: usize) -> MatmulPrecision {
        /// Values of a head whose tokens may be looped over where loops are cut short: rounds of llvmpipe, as [`MAX_TILES`].
        const SHORT_LOOPS: usize = 1 << 19;
        let looped = reach * self.head_dim * (self.heads / self.kv_heads);
        let is_large = self.may_split() && reach > FEW_ROWS && !(device.limits().short_loops && looped > SHORT_LOOPS);
        if is_large { device.matmul_precision() } else { MatmulPrecision::Highest }
    }

    /// Whether matrix units take these heads. Small ones gain nothing, and of larger ones no invocation has the registers for the sums.
    pub(super) fn may_split(self) -> bool {
        const HEAD_DIMS: RangeInclusive<usize> = 32..=128;
        HEAD_DIMS.contains(&self.head_dim) && self.heads <= MAX_SPLIT_HEADS
    }

    /// How queries, and keys and values, are stored that are of this precision.
    pub(super) fn splits(self, tokens: usize, precision: MatmulPrecision) -> Splits {
        let of = |heads| Split { tokens, heads, head_dim: self.head_dim, precision };
        Splits { of_queries: of(self.heads), of_keys: of(self.kv_heads) }
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

/// How an attention layer's tensors are stored.
pub(super) struct Splits {
    /// Queries, and the gradient of the output.
    pub of_queries: Split,
    /// Keys and values.
    pub of_keys: Split,
}

kernel! {
    /// `s = scale q . k` over the keys of the token's own sequence up to itself, the last `window` of them, `lse = log sum exp(s)`,
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
        /// The most keys that a token sees, itself included.
        window: u32,
        ;
        /// How many tiles to compute.
        tiles: u32,
        /// Values a head.
        head_dim: u32,
        /// The most keys that the queries of a tile see.
        reach: u32,
        /// Where it is not the highest, `q`, `k` and `v` are those of [`SplitHeads`](super::SplitHeads).
        precision: MatmulPrecision,
    }
}

/// Sequences that stand end to end on the axis of tokens.
#[derive(Clone, Copy)]
pub struct Sequences<'a> {
    /// `[tokens, 2]`: where each token's sequence starts and ends.
    pub bounds: &'a Tensor,
    pub tokens: usize,
    /// Tokens of the longest sequence.
    pub longest: usize,
    /// The most tokens that one sees, itself included, where they are fewer than its sequence up to itself.
    pub window: Option<usize>,
}

impl Sequences<'_> {
    /// The window as the kernels have it.
    pub(super) fn window(&self) -> u32 {
        self.window.map_or(u32::MAX, word)
    }

    /// The most keys that the queries of a tile see, or the queries that see its keys.
    pub(super) fn reach(&self) -> usize {
        self.window.map_or(self.longest, |window| self.longest.min(window.saturating_add(TILE - 1)))
    }
}

/// What attention is over.
#[derive(Clone, Copy)]
pub struct Projections<'a> {
    /// `[tokens, heads, head_dim]`
    pub q: &'a Tensor,
    /// `[tokens, kv_heads, head_dim]`
    pub k: &'a Tensor,
    /// `[tokens, kv_heads, head_dim]`
    pub v: &'a Tensor,
    /// What a score is multiplied by.
    pub scale: f32,
    /// How they are stored: as they are, or less precise as [`SplitHeads`](super::SplitHeads) has them, as is the gradient that goes with them.
    pub precision: MatmulPrecision,
}

/// What the backward passes need of the output.
#[derive(Clone, Copy)]
pub struct OutputGradient<'a> {
    /// `[tokens, heads, head_dim]`
    pub dout: &'a Tensor,
    /// `[tokens, heads, 2]`: lse and delta, of [`AttentionBackwardDelta`](super::AttentionBackwardDelta).
    pub row_statistics: &'a Tensor,
}

impl<'a> Attention<'a> {
    /// Writes `o` and `lse`, in as many dispatches as the longest sequence needs.
    pub fn run(
        device: &Device,
        heads: Heads,
        sequences: Sequences<'a>,
        projections: Projections<'a>,
        o: &'a mut Tensor,
        lse: &'a mut Tensor,
    ) {
        let Sequences { bounds, tokens, .. } = sequences;
        let (window, reach) = (sequences.window(), sequences.reach());
        let Projections { q, k, v, scale, precision } = projections;
        let Heads { heads: h, kv_heads, head_dim } = heads;
        TileWork { flops: FLOPS, reach, heads: h, head_dim }.for_each_run(device.rates(), tokens, |tiles| {
            device.run(Attention {
                bounds,
                q,
                k,
                v,
                o: &mut *o,
                lse: &mut *lse,
                tokens: word(tokens),
                heads: word(h),
                kv_heads: word(kv_heads),
                scale,
                first_tile: word(tiles.start),
                window,
                tiles: word(tiles.len()),
                head_dim: word(head_dim),
                reach: word(reach),
                precision,
            });
        });
    }
}

/// Operations of the forward pass for each value of a head and each pair of a query and a key.
const FLOPS: f64 = 4.0;

/// The work in a tile: at most that of its tokens with every token that they see.
#[derive(Clone, Copy)]
pub(super) struct TileWork {
    /// Operations for each value of a head and each pair of a query and a key.
    pub flops: f64,
    /// As of [`Sequences::reach`].
    pub reach: usize,
    pub heads: usize,
    pub head_dim: usize,
}

impl TileWork {
    fn cost(self, tiles: usize) -> Cost {
        let pairs = tiles as f64 * TILE as f64 * self.reach as f64;
        Cost { flops: self.flops * pairs * self.heads as f64 * self.head_dim as f64, bytes: 0.0 }
    }

    /// Calls `part` with runs of the tiles of `tokens` tokens that are each short enough for one dispatch.
    pub fn for_each_run(self, rates: Rates, tokens: usize, mut part: impl FnMut(Range<usize>)) {
        let tiles = tokens.div_ceil(TILE);
        // Whole workgroups of every text: two tiles.
        let run = 2 * self.cost(2).per_dispatch(rates, tiles.div_ceil(2));
        for first in (0..tiles).step_by(run) {
            part(first..(first + run).min(tiles));
        }
    }

    /// The launch of `tiles` tiles, with a workgroup for each tile and each of `workgroups`. 128 invocations have half of the
    /// registers each, 64 meet less; they compute the same bits. On matrix units a workgroup has four matrices of rows.
    pub fn launch(
        self,
        variants: &'static [Variant; TEXTS],
        traits: Traits,
        precision: MatmulPrecision,
        tiles: u32,
        workgroups: u32,
    ) -> Launch {
        let units = traits.matrices.filter(|_| precision != MatmulPrecision::Highest);
        let text = units.map_or(usize::from(!traits.software), |units| text_on_matrices(units, precision));
        let rows = units.map_or(TILE as u32, |units| 4 * units.size.values());
        let mut constants = vec![("HEAD_DIM", self.head_dim as f64)];
        constants.extend(units.into_iter().flat_map(|units| matrices_constants(traits, units)));
        let rows = (tiles * TILE as u32).div_ceil(rows);
        Launch {
            variant: &variants[text],
            constants,
            workgroups: [rows, workgroups, 1],
            cost: self.cost(tiles as usize),
        }
    }
}

/// The sizes that all attention kernels share, to be checked.
pub(super) struct Sizes {
    pub tokens: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub first_tile: u32,
    pub tiles: u32,
}

impl Sizes {
    /// Checks that the heads go with each other and that the tiles have tokens.
    pub fn check<K: Kernel>(&self) {
        let Self { tokens, heads, kv_heads, head_dim, first_tile, tiles } = *self;
        let name = K::SIGNATURE.name;
        assert!(heads.is_multiple_of(kv_heads), "{name}: {kv_heads} key heads do not divide {heads} heads");
        assert!(head_dim.is_multiple_of(4) && head_dim as usize <= MAX_HEAD_DIM, "{name}: head_dim {head_dim}");
        let last_tile = first_tile as usize + tiles as usize;
        assert!(last_tile <= (tokens as usize).div_ceil(TILE), "{name}: tiles after the last token");
    }
}

/// Rows that a twin takes at once.
const BLOCK: usize = 64;

/// A run of at most [`BLOCK`] tokens of one sequence.
pub(super) struct Block {
    pub rows: Range<usize>,
    pub sequence: Range<usize>,
    window: usize,
}

impl Block {
    /// The first key that a token of its sequence sees.
    fn first_seen(&self, token: usize) -> usize {
        self.sequence.start.max((token + 1).saturating_sub(self.window))
    }

    /// The keys that its tokens see.
    pub fn keys(&self) -> Range<usize> {
        self.first_seen(self.rows.start)..self.rows.end
    }

    /// Those that one of its tokens sees, by their places among [`Block::keys`].
    pub fn seen(&self, row: usize) -> Range<usize> {
        let (token, first) = (self.rows.start + row, self.keys().start);
        self.first_seen(token) - first..token + 1 - first
    }

    /// The tokens that see one of its own.
    pub fn queries(&self) -> Range<usize> {
        self.rows.start..self.sequence.end.min((self.rows.end - 1).saturating_add(self.window))
    }

    /// Those of its tokens that the one at this place of [`Block::queries`] sees.
    pub fn seen_by(&self, query: usize) -> Range<usize> {
        let first = self.first_seen(self.rows.start + query).max(self.rows.start) - self.rows.start;
        first.min(self.rows.len())..(query + 1).min(self.rows.len())
    }
}

/// Cuts the tokens of some tiles into blocks that each lie in one sequence.
pub(super) fn blocks(bounds: &[u32], tokens: u32, first_tile: u32, tiles: u32, window: u32) -> Vec<Block> {
    let end = ((first_tile as usize + tiles as usize) * TILE).min(tokens as usize);
    let mut row = first_tile as usize * TILE;
    let mut blocks = Vec::new();
    while row < end {
        let sequence = bounds[2 * row] as usize..bounds[2 * row + 1] as usize;
        let rows = row..(row + BLOCK).min(sequence.end).min(end);
        row = rows.end;
        blocks.push(Block { rows, sequence, window: window as usize });
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

impl Attention<'_> {
    /// How queries, and keys and values, are stored.
    fn splits(&self) -> Splits {
        let [heads, kv_heads, head_dim] = [self.heads, self.kv_heads, self.head_dim].map(|size| size as usize);
        Heads { heads, kv_heads, head_dim }.splits(self.tokens as usize, self.precision)
    }
}

impl Kernel for Attention<'_> {
    fn check(&self) {
        let Self { tokens, heads, kv_heads, head_dim, first_tile, tiles, .. } = *self;
        Sizes { tokens, heads, kv_heads, head_dim, first_tile, tiles }.check::<Self>();
        let (tokens, dim) = (self.tokens as usize, self.head_dim as usize);
        reaches::<Self>(self.bounds, 2 * tokens);
        let Splits { of_queries, of_keys } = self.splits();
        reaches::<Self>(self.q, of_queries.elements());
        reaches::<Self>(self.k, of_keys.elements());
        reaches::<Self>(self.v, of_keys.elements());
        reaches::<Self>(self.o, tokens * self.heads as usize * dim);
        reaches::<Self>(self.lse, tokens * self.heads as usize);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let [reach, heads, head_dim] = [self.reach, self.heads, self.head_dim].map(|size| size as usize);
        TileWork { flops: FLOPS, reach, heads, head_dim }.launch(
            &VARIANTS,
            traits,
            self.precision,
            self.tiles,
            self.heads,
        )
    }

    fn twin<T: Real>(&mut self) {
        let (heads, kv_heads, dim) = (self.heads as usize, self.kv_heads as usize, self.head_dim as usize);
        let scale = T::of(self.scale.into());
        let blocks = blocks(self.bounds.u32s(), self.tokens, self.first_tile, self.tiles, self.window);
        let Splits { of_queries, of_keys } = self.splits();
        let (q, precision) = (HeadRows::<T>::of(self.q, of_queries), self.precision);
        let [k, v] = [self.k, self.v].map(|tensor| HeadRows::<T>::of(tensor, of_keys));
        let o = split_rows(self.o.real_mut::<T>(), &blocks, heads * dim);
        let lse = split_rows(self.lse.real_mut::<T>(), &blocks, heads);
        blocks.into_par_iter().zip(o).zip(lse).for_each(|((block, o), lse)| {
            let (first, count, first_key, keys) =
                (block.rows.start, block.rows.len(), block.keys().start, block.keys().len());
            let mut scores = vec![T::zero(); count * keys];
            for head in 0..heads {
                let kv_head = head / (heads / kv_heads);
                let (k, v) = (k.from(kv_head, first_key), v.from(kv_head, first_key));
                let mut s = MatrixMut::row_major(&mut scores, keys);
                q.from(head, first).multiply(&mut s, k.transposed(), dim, false);
                vectorized(
                    #[inline(always)]
                    || {
                        for (row, s) in scores.chunks_mut(keys).enumerate() {
                            let range = block.seen(row);
                            let (seen, after) = s.split_at_mut(range.end);
                            let (before, seen) = seen.split_at_mut(range.start);
                            let largest = largest(seen);
                            for s in &mut *seen {
                                *s = (scale * (*s - largest)).exp_in_loops();
                            }
                            let [sum] = sum_over([seen], |p| p);
                            for s in &mut *seen {
                                *s /= sum;
                            }
                            before.fill(T::zero());
                            after.fill(T::zero());
                            lse[row * heads + head] = scale * largest + sum.ln();
                        }
                    },
                );
                let weights = RoundedWeights::round(&mut scores, precision);
                let mut o = MatrixMut { data: &mut o[head * dim..], rows: count, cols: dim, row_stride: heads * dim };
                weights.parts(&scores, keys).multiply(&mut o, v, keys, false);
            }
        });
    }
}
