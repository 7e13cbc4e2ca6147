//! Attention, backward to the queries: the probabilities are computed again, tile by tile.

use rayon::prelude::*;

use super::attention::{
    Heads, OutputGradient, Projections, Sequences, Sizes, TileWork, backward, blocks, head_rows, split_rows,
};
use crate::device::{
    Device, Kernel, Matrix, MatrixMut, Real, Tensor, Threads, kernel, multiply, reaches, vectorized, word,
};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = backward(include_str!("../../shaders/attention_backward_query.wgsl"));

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
        let Projections { q, k, v, scale } = projections;
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
            });
        });
    }
}

/// Operations for each value of a head and each pair of a query and a key.
const FLOPS: f64 = 6.0;

impl Kernel for AttentionBackwardQuery<'_> {
    fn check(&self) {
        let Self { tokens, heads, kv_heads, head_dim, first_tile, tiles, .. } = *self;
        Sizes { tokens, heads, kv_heads, head_dim, first_tile, tiles }.check::<Self>();
        let (tokens, dim) = (self.tokens as usize, self.head_dim as usize);
        let (heads, kv_heads) = (self.heads as usize, self.kv_heads as usize);
        reaches::<Self>(self.bounds, 2 * tokens);
        for tensor in [self.q, self.dout, self.dq] {
            reaches::<Self>(tensor, tokens * heads * dim);
        }
        reaches::<Self>(self.k, tokens * kv_heads * dim);
        reaches::<Self>(self.v, tokens * kv_heads * dim);
        reaches::<Self>(self.row_statistics, 2 * tokens * heads);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let [reach, heads, head_dim] = [self.reach, self.heads, self.head_dim].map(|size| size as usize);
        TileWork { flops: FLOPS, reach, heads, head_dim }.launch(&VARIANTS, traits, self.tiles, self.heads)
    }

    fn twin<T: Real>(&mut self) {
        let (heads, kv_heads, dim) = (self.heads as usize, self.kv_heads as usize, self.head_dim as usize);
        let scale = T::of(self.scale.into());
        let blocks = blocks(self.bounds.u32s(), self.tokens, self.first_tile, self.tiles, self.window);
        let (q, k, v) = (self.q.real::<T>(), self.k.real::<T>(), self.v.real::<T>());
        let (dout, row_statistics) = (self.dout.real::<T>(), self.row_statistics.real::<T>());
        let dq = split_rows(self.dq.real_mut::<T>(), &blocks, heads * dim);
        blocks.into_par_iter().zip(dq).for_each(|(block, dq)| {
            let (first, count, first_key, keys) =
                (block.rows.start, block.rows.len(), block.keys().start, block.keys().len());
            let mut s = vec![T::zero(); count * keys];
            let mut dp = vec![T::zero(); count * keys];
            for head in 0..heads {
                let kv_head = head / (heads / kv_heads);
                let k = head_rows(k, first_key, kv_head, kv_heads, dim);
                let v = head_rows(v, first_key, kv_head, kv_heads, dim);
                let q = head_rows(q, first, head, heads, dim);
                let dout = head_rows(dout, first, head, heads, dim);
                multiply(Threads::This, MatrixMut::row_major(&mut s, keys), q, k.transposed(), dim, false);
                multiply(Threads::This, MatrixMut::row_major(&mut dp, keys), dout, v.transposed(), dim, false);
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
                let dq = MatrixMut { data: &mut dq[head * dim..], rows: count, cols: dim, row_stride: heads * dim };
                multiply(Threads::This, dq, Matrix::row_major(&s, keys), k, keys, false);
            }
        });
    }
}
