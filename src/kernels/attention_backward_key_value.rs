//! Attention, backward to the keys and values: the probabilities are computed again, tile by tile, and each key gathers
//! from its queries, so that no two invocations write to one place.

use rayon::prelude::*;

use super::attention::{
    Heads, MAX_TILES, OutputGradient, Projections, Sequences, Sizes, TileWork, backward, blocks, head_rows, split_rows,
};
use crate::device::{Device, Kernel, Matrix, MatrixMut, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = backward(include_str!("../../shaders/attention_backward_key_value.wgsl"));

kernel! {
    /// `dv = sum p dout`, `dk = scale sum ds q`, over the queries at or after the key in its sequence and over the
    /// heads of its group. (`p` and `ds` are those of [`AttentionBackwardQuery`](super::AttentionBackwardQuery).)
    pub struct AttentionBackwardKeyValue in "attention_backward_key_value" of VARIANTS {
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
        /// `[tokens, kv_heads, head_dim]`
        write dk,
        /// `[tokens, kv_heads, head_dim]`
        write dv,
        ;
        tokens: u32,
        heads: u32,
        kv_heads: u32,
        scale: f32,
        /// The first tile of 32 keys to compute.
        first_tile: u32,
        /// The first head of each group to take; the gradients are overwritten where it is 0, else added to.
        first_member: u32,
        /// How many heads of each group to take.
        members: u32,
        ;
        /// How many tiles to compute.
        tiles: u32,
        /// Values a head.
        head_dim: u32,
        /// Tokens of the longest sequence.
        longest: u32,
    }
}

impl<'a> AttentionBackwardKeyValue<'a> {
    /// Writes `dk` and `dv`, in as many dispatches as the longest sequence needs.
    pub fn run(
        device: &Device,
        heads: Heads,
        sequences: Sequences<'a>,
        projections: Projections<'a>,
        output: OutputGradient<'a>,
        dk: &'a mut Tensor,
        dv: &'a mut Tensor,
    ) {
        let Sequences { bounds, tokens, longest } = sequences;
        let Projections { q, k, v } = projections;
        let OutputGradient { dout, row_statistics } = output;
        let Heads { heads: h, kv_heads, head_dim } = heads;
        let group = h / kv_heads;
        // An invocation walks the queries of every head that it takes.
        let at_once = MAX_TILES / heads.tiles(longest).max(1);
        let members = if device.limits().short_loops { at_once.clamp(1, group) } else { group };
        for first_member in (0..group).step_by(members) {
            let members = members.min(group - first_member);
            let work = TileWork { flops: FLOPS, longest, heads: members * kv_heads, head_dim };
            work.for_each_run(device.rates(), tokens, |tiles| {
                device.run(AttentionBackwardKeyValue {
                    bounds,
                    q,
                    k,
                    v,
                    dout,
                    row_statistics,
                    dk: &mut *dk,
                    dv: &mut *dv,
                    tokens: word(tokens),
                    heads: word(h),
                    kv_heads: word(kv_heads),
                    scale: heads.scale(),
                    first_tile: word(tiles.start),
                    first_member: word(first_member),
                    members: word(members),
                    tiles: word(tiles.len()),
                    head_dim: word(head_dim),
                    longest: word(longest),
                });
            });
        }
    }
}

/// The largest `head_dim` whose two gradients one invocation has the registers for, on every GPU.
const MAX_JOINT_HEAD_DIM: usize = 128;

/// Fewer workgroups than this leave most of a large GPU idle.
const FEW_WORKGROUPS: usize = 128;

/// Operations for each value of a head and each pair of a query and a key.
const FLOPS: f64 = 8.0;

impl Kernel for AttentionBackwardKeyValue<'_> {
    fn check(&self) {
        let Self { tokens, heads, kv_heads, head_dim, first_tile, tiles, .. } = *self;
        Sizes { tokens, heads, kv_heads, head_dim, first_tile, tiles }.check::<Self>();
        let (tokens, dim) = (self.tokens as usize, self.head_dim as usize);
        let (heads, kv_heads) = (self.heads as usize, self.kv_heads as usize);
        assert!(
            self.first_member as usize + self.members as usize <= heads / kv_heads,
            "attention_backward_key_value: members"
        );
        reaches::<Self>(self.bounds, 2 * tokens);
        reaches::<Self>(self.q, tokens * heads * dim);
        reaches::<Self>(self.dout, tokens * heads * dim);
        for tensor in [self.k, self.v, self.dk, self.dv] {
            reaches::<Self>(tensor, tokens * kv_heads * dim);
        }
        reaches::<Self>(self.row_statistics, 2 * tokens * heads);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let [longest, head_dim, kv_heads] = [self.longest, self.head_dim, self.kv_heads].map(|size| size as usize);
        let heads = self.members as usize * kv_heads;
        let work = TileWork { flops: FLOPS, longest, heads, head_dim };
        let mut launch = work.launch(&VARIANTS, traits, self.tiles, self.kv_heads);
        let is_few = (self.tiles as usize * kv_heads) < FEW_WORKGROUPS;
        if !traits.software && (head_dim > MAX_JOINT_HEAD_DIM || is_few) {
            launch.constants.push(("APART", 1.0));
            launch.workgroups[2] = 2;
        }
        launch
    }

    fn twin<T: Real>(&mut self) {
        let (heads, kv_heads, dim) = (self.heads as usize, self.kv_heads as usize, self.head_dim as usize);
        let scale = T::of(self.scale.into());
        let blocks = blocks(self.bounds.u32s(), self.tokens, self.first_tile, self.tiles);
        let (q, k, v) = (self.q.real::<T>(), self.k.real::<T>(), self.v.real::<T>());
        let (dout, row_statistics) = (self.dout.real::<T>(), self.row_statistics.real::<T>());
        let dk = split_rows(self.dk.real_mut::<T>(), &blocks, kv_heads * dim);
        let dv = split_rows(self.dv.real_mut::<T>(), &blocks, kv_heads * dim);
        let group = heads / kv_heads;
        let (first_member, members) = (self.first_member as usize, self.members as usize);
        blocks.into_par_iter().zip(dk).zip(dv).for_each(|((block, dk), dv)| {
            let (first, keys, queries) = (block.rows.start, block.rows.len(), block.sequence.end - block.rows.start);
            let mut s = vec![T::zero(); queries * keys];
            let mut dp = vec![T::zero(); queries * keys];
            for (kv_head, member) in
                (0..kv_heads).flat_map(|g| (first_member..first_member + members).map(move |m| (g, m)))
            {
                let head = kv_head * group + member;
                let k = head_rows(k, first, kv_head, kv_heads, dim);
                let v = head_rows(v, first, kv_head, kv_heads, dim);
                let q = head_rows(q, first, head, heads, dim);
                let dout = head_rows(dout, first, head, heads, dim);
                T::gemm(MatrixMut::row_major(&mut s, keys), q, k.transposed(), dim, false);
                T::gemm(MatrixMut::row_major(&mut dp, keys), dout, v.transposed(), dim, false);
                for (row, (s, dp)) in s.chunks_mut(keys).zip(dp.chunks_mut(keys)).enumerate() {
                    let statistics = &row_statistics[2 * ((first + row) * heads + head)..];
                    let (lse, delta) = (statistics[0], statistics[1]);
                    for (key, (s, dp)) in s.iter_mut().zip(dp).enumerate() {
                        let p = if key <= row { (scale * *s - lse).exp_in_loops() } else { T::zero() };
                        *s = p;
                        *dp = scale * p * (*dp - delta);
                    }
                }
                let rows = |data| MatrixMut { data, rows: keys, cols: dim, row_stride: kv_heads * dim };
                let transposed = |data| Matrix::row_major(data, keys).transposed();
                T::gemm(rows(&mut dv[kv_head * dim..]), transposed(&s), dout, queries, member > 0);
                T::gemm(rows(&mut dk[kv_head * dim..]), transposed(&dp), q, queries, member > 0);
            }
        });
    }
}
