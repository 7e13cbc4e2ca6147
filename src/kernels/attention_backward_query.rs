//! Attention, backward to the queries: the probabilities are computed again, tile by tile.

use rayon::prelude::*;

use super::attention::{Heads, OutputGradient, Projections, Sequences, Sizes, Splits, TileWork, blocks, split_rows};
use super::attention_texts::{SCORES, TEXTS, texts};
use super::halves::RoundedWeights;
use super::split_heads::HeadRows;
use crate::device::{Device, Kernel, MatmulPrecision, MatrixMut, Real, Tensor, kernel, reaches, vectorized, word};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; TEXTS] = texts!(
    "attention_backward_query",
    [
        include_str!("../../shaders/shared/attention_gradients.wgsl"),
        include_str!("../../shaders/shared/attention_tiles_query.wgsl")
    ],
    [
        SCORES,
        include_str!("../../shaders/shared/attention_matrices_gradients.wgsl"),
        include_str!("../../shaders/shared/attention_matrices_query.wgsl")
    ]
);

kernel! {
    /// `p = exp(scale q . k - lse)`, `ds = p (dout . v - delta)`, `dq = scale sum ds k`.
    pub struct AttentionBackwardQuery in "attention_backward_query" of VARIANTS {
        /// `[tokens, 2]`: where the token's sequence starts and ends.
        read bounds,
        /// `[tokens, heads, head_dim]`
        read q,
        /// `[tokens, kv_heads, head_dim]`
        read k,
        /// `[tokens, kv_heads, head_dim]`
        read v,
        /// `[tokens, heads, head_dim]`
        read dout,
        /// `[tokens, heads, 2]`: lse and delta.
        read row_statistics,
        /// `[tokens, heads, head_dim]`
        write dq,
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
        /// Where it is not the highest, `q`, `k`, `v` and `dout` are those of [`SplitHeads`](super::SplitHeads).
        precision: MatmulPrecision,
    }
}

impl<'a> AttentionBackwardQuery<'a> {
    /// Writes `dq`, in as many dispatches as the longest sequence needs.
    pub fn run(
        device: &Device,
        heads: Heads,
        sequences: Sequences<'a>,
        projections: Projections<'a>,
        output: OutputGradient<'a>,
        dq: &'a mut Tensor,
    ) {
        let Sequences { bounds, tokens, .. } = sequences;
        let (window, reach) = (sequences.window(), sequences.reach());
        let Projections { q, k, v, scale, precision } = projections;
        let OutputGradient { dout, row_statistics } = output;
        let Heads { heads: h, kv_heads, head_dim } = heads;
        TileWork { flops: FLOPS, reach, heads: h, head_dim }.for_each_run(device.rates(), tokens, |tiles| {
            device.run(AttentionBackwardQuery {
                bounds,
                q,
                k,
                v,
                dout,
                row_statistics,
                dq: &mut *dq,
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

/// Operations for each value of a head and each pair of a query and a key.
const FLOPS: f64 = 6.0;

impl AttentionBackwardQuery<'_> {
    /// How queries, and keys and values, are stored.
    fn splits(&self) -> Splits {
        let [heads, kv_heads, head_dim] = [self.heads, self.kv_heads, self.head_dim].map(|size| size as usize);
        Heads { heads, kv_heads, head_dim }.splits(self.tokens as usize, self.precision)
    }
}

impl Kernel for AttentionBackwardQuery<'_> {
    fn check(&self) {
        let Self { tokens, heads, kv_heads, head_dim, first_tile, tiles, .. } = *self;
        Sizes { tokens, heads, kv_heads, head_dim, first_tile, tiles }.check::<Self>();
        let (tokens, dim) = (self.tokens as usize, self.head_dim as usize);
        let heads = self.heads as usize;
        reaches::<Self>(self.bounds, 2 * tokens);
        let Splits { of_queries, of_keys } = self.splits();
        for tensor in [self.q, self.dout] {
            reaches::<Self>(tensor, of_queries.elements());
        }
        for tensor in [self.k, self.v] {
            reaches::<Self>(tensor, of_keys.elements());
        }
        reaches::<Self>(self.dq, tokens * heads * dim);
        reaches::<Self>(self.row_statistics, 2 * tokens * heads);
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
        let [q, dout] = [self.q, self.dout].map(|tensor| HeadRows::<T>::of(tensor, of_queries));
        let [k, v] = [self.k, self.v].map(|tensor| HeadRows::<T>::of(tensor, of_keys));
        let (row_statistics, precision) = (self.row_statistics.real::<T>(), self.precision);
        let dq = split_rows(self.dq.real_mut::<T>(), &blocks, heads * dim);
        blocks.into_par_iter().zip(dq).for_each(|(block, dq)| {
            let (first, count, first_key, keys) =
                (block.rows.start, block.rows.len(), block.keys().start, block.keys().len());
            let mut s = vec![T::zero(); count * keys];
            let mut dp = vec![T::zero(); count * keys];
            for head in 0..heads {
                let kv_head = head / (heads / kv_heads);
                let (k, v) = (k.from(kv_head, first_key), v.from(kv_head, first_key));
                let (q, dout) = (q.from(head, first), dout.from(head, first));
                q.multiply(&mut MatrixMut::row_major(&mut s, keys), k.transposed(), dim, false);
                dout.multiply(&mut MatrixMut::row_major(&mut dp, keys), v.transposed(), dim, false);
                vectorized(
                    #[inline(always)]
                    || {
                        for (row, (s, dp)) in s.chunks_mut(keys).zip(dp.chunks(keys)).enumerate() {
                            let statistics = &row_statistics[2 * ((first + row) * heads + head)..];
                            let (lse, delta) = (statistics[0], statistics[1]);
                            let range = block.seen(row);
                            for (s, &dp) in s[range.clone()].iter_mut().zip(&dp[range.clone()]) {
                                *s = scale * (scale * *s - lse).exp_in_loops() * (dp - delta);
                            }
                            s[..range.start].fill(T::zero());
                            s[range.end..].fill(T::zero());
                        }
                    },
                );
                let weights = RoundedWeights::round(&mut s, precision);
                let mut dq = MatrixMut { data: &mut dq[head * dim..], rows: count, cols: dim, row_stride: heads * dim };
                weights.parts(&s, keys).multiply(&mut dq, k, keys, false);
            }
        });
    }
}
