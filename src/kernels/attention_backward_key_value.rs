//! Attention, backward to the keys and values: the probabilities are computed again, tile by tile, and each key gathers
//! from its queries, so that no two invocations write to one place.

use rayon::prelude::*;

use super::ColumnSum;
use super::attention::{
    Heads, MAX_TILES, OutputGradient, Projections, Sequences, Sizes, Splits, TILE, TileWork, blocks, split_rows,
};
use super::attention_texts::{TEXTS, texts};
use super::halves::RoundedWeights;
use super::split_heads::HeadRows;
use crate::device::{Device, Kernel, MatmulPrecision, MatrixMut, Real, Tensor, kernel, reaches, vectorized, word};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; TEXTS] = texts!(
    "attention_backward_key_value",
    [
        include_str!("../../shaders/shared/attention_gradients.wgsl"),
        include_str!("../../shaders/shared/attention_tiles_key_value.wgsl")
    ],
    [
        include_str!("../../shaders/shared/attention_matrices_gradients.wgsl"),
        include_str!("../../shaders/shared/attention_matrices_key_value.wgsl")
    ]
);

kernel! {
    /// `dv = sum p dout`, `dk = scale sum ds q`, over the queries that see the key, which are at or after it in its
    /// sequence, and over the heads of its group. (`p` and `ds` are those of [`AttentionBackwardQuery`](super::AttentionBackwardQuery).)
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
        /// `[layers, tokens, kv_heads, head_dim]`
        write dk,
        /// `[layers, tokens, kv_heads, head_dim]`
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
        /// Where only one gradient is computed, which: 0, to the values, or 1, to the keys; else 0.
        first_gradient: u32,
        /// Into how many layers the sum over heads and queries is split; both gradients are computed where it is 1 and the
        /// precision the highest.
        layers: u32,
        /// The most keys that a token sees, itself included.
        window: u32,
        ;
        /// How many tiles to compute.
        tiles: u32,
        /// Values a head.
        head_dim: u32,
        /// The most queries that see the keys of a tile.
        reach: u32,
        /// Where it is not the highest, `q`, `k`, `v` and `dout` are those of [`SplitHeads`](super::SplitHeads).
        precision: MatmulPrecision,
    }
}

/// What [`AttentionBackwardKeyValue::run`] writes.
pub struct KeyValueGradients<'a> {
    /// `[tokens, kv_heads, head_dim]`
    pub dk: &'a mut Tensor,
    /// `[tokens, kv_heads, head_dim]`
    pub dv: &'a mut Tensor,
    /// Scratch: room for as many layers of one of them as a sum may be split into.
    pub partial: &'a mut Tensor,
}

impl<'a> AttentionBackwardKeyValue<'a> {
    /// Writes `dk` and `dv`, in as many dispatches as the longest sequence needs. Where a GPU would have few workgroups, several
    /// share the sum of a gradient; what they have is added up in order.
    pub fn run(
        device: &Device,
        heads: Heads,
        sequences: Sequences<'a>,
        projections: Projections<'a>,
        output: OutputGradient<'a>,
        gradients: KeyValueGradients<'a>,
    ) {
        let KeyValueGradients { dk, dv, partial } = gradients;
        let inputs = Inputs { heads, sequences, projections, output };
        let values = sequences.tokens * heads.kv_heads * heads.head_dim;
        let layers = if device.is_real_gpu() { layers(sequences.tokens, heads, partial.len() / values) } else { 1 };
        if layers == 1 {
            inputs.run(device, 0, 1, dk, dv);
            if projections.precision != MatmulPrecision::Highest {
                inputs.run(device, 1, 1, dk, dv);
            }
            return;
        }
        inputs.run(device, 0, layers, dk, partial);
        ColumnSum::of_layers(device, partial, dv, layers, values);
        inputs.run(device, 1, layers, partial, dv);
        ColumnSum::of_layers(device, partial, dk, layers, values);
    }
}

/// What the gradients are computed from.
struct Inputs<'a> {
    heads: Heads,
    sequences: Sequences<'a>,
    projections: Projections<'a>,
    output: OutputGradient<'a>,
}

impl Inputs<'_> {
    fn run(&self, device: &Device, first_gradient: u32, layers: usize, dk: &mut Tensor, dv: &mut Tensor) {
        let Sequences { bounds, tokens, .. } = self.sequences;
        let (window, reach) = (self.sequences.window(), self.sequences.reach());
        let Projections { q, k, v, scale, precision } = self.projections;
        let OutputGradient { dout, row_statistics } = self.output;
        let Heads { heads, kv_heads, head_dim } = self.heads;
        let group = heads / kv_heads;
        // An invocation walks the queries of every head that it takes.
        let at_once = MAX_TILES / self.heads.tiles(reach).max(1);
        let is_short = device.limits().short_loops && precision == MatmulPrecision::Highest;
        let members = if is_short { at_once.clamp(1, group) } else { group };
        for first_member in (0..group).step_by(members) {
            let members = members.min(group - first_member);
            let work = TileWork { flops: FLOPS, reach, heads: members * kv_heads, head_dim };
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
                    heads: word(heads),
                    kv_heads: word(kv_heads),
                    scale,
                    first_tile: word(tiles.start),
                    first_member: word(first_member),
                    members: word(members),
                    first_gradient,
                    layers: word(layers),
                    window,
                    tiles: word(tiles.len()),
                    head_dim: word(head_dim),
                    reach: word(reach),
                    precision,
                });
            });
        }
    }
}

/// Into how many layers the sums are split, by the shape and the room for them: none has more than a head's share.
fn layers(tokens: usize, heads: Heads, room: usize) -> usize {
    const WORKGROUPS: usize = 512;
    let workgroups = tokens.div_ceil(TILE) * heads.kv_heads;
    (WORKGROUPS / workgroups.max(1)).min(heads.heads / heads.kv_heads).min(room).max(1)
}

/// The largest `head_dim` whose two gradients one invocation has the registers for, on every GPU.
const MAX_JOINT_HEAD_DIM: usize = 128;

/// Fewer workgroups than this leave most of a large GPU idle.
const FEW_WORKGROUPS: usize = 128;

/// Operations for each value of a head and each pair of a query and a key.
const FLOPS: f64 = 8.0;

impl AttentionBackwardKeyValue<'_> {
    /// How queries, and keys and values, are stored.
    fn splits(&self) -> Splits {
        let [heads, kv_heads, head_dim] = [self.heads, self.kv_heads, self.head_dim].map(|size| size as usize);
        Heads { heads, kv_heads, head_dim }.splits(self.tokens as usize, self.precision)
    }
}

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
        let Splits { of_queries, of_keys } = self.splits();
        reaches::<Self>(self.q, of_queries.elements());
        reaches::<Self>(self.dout, of_queries.elements());
        reaches::<Self>(self.k, of_keys.elements());
        reaches::<Self>(self.v, of_keys.elements());
        let values = tokens * kv_heads * dim;
        for (gradient, tensor) in [(0, &self.dv), (1, &self.dk)] {
            let layers = if gradient == self.first_gradient { self.layers as usize } else { 1 };
            reaches::<Self>(tensor, layers * values);
        }
        reaches::<Self>(self.row_statistics, 2 * tokens * heads);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let [reach, head_dim, kv_heads] = [self.reach, self.head_dim, self.kv_heads].map(|size| size as usize);
        let heads = self.members as usize * kv_heads;
        let work = TileWork { flops: FLOPS, reach, heads, head_dim };
        let mut launch = work.launch(&VARIANTS, traits, self.precision, self.tiles, self.kv_heads);
        if self.precision != MatmulPrecision::Highest {
            launch.constants.push(("OF_KEYS", f64::from(self.first_gradient)));
            launch.workgroups[2] = self.layers;
            return launch;
        }
        let is_few = (self.tiles as usize * kv_heads) < FEW_WORKGROUPS;
        if self.layers > 1 || !traits.software && (head_dim > MAX_JOINT_HEAD_DIM || is_few) {
            launch.constants.push(("APART", 1.0));
            launch.workgroups[2] = self.layers.max(2);
        }
        launch
    }

    fn twin<T: Real>(&mut self) {
        assert!(self.layers == 1, "attention_backward_key_value: only a GPU splits the sums");
        let (heads, kv_heads, dim) = (self.heads as usize, self.kv_heads as usize, self.head_dim as usize);
        let scale = T::of(self.scale.into());
        let blocks = blocks(self.bounds.u32s(), self.tokens, self.first_tile, self.tiles, self.window);
        let Splits { of_queries, of_keys } = self.splits();
        let [q, dout] = [self.q, self.dout].map(|tensor| HeadRows::<T>::of(tensor, of_queries));
        let [k, v] = [self.k, self.v].map(|tensor| HeadRows::<T>::of(tensor, of_keys));
        let (row_statistics, precision) = (self.row_statistics.real::<T>(), self.precision);
        let only = (precision != MatmulPrecision::Highest).then_some(self.first_gradient);
        let dk = split_rows(self.dk.real_mut::<T>(), &blocks, kv_heads * dim);
        let dv = split_rows(self.dv.real_mut::<T>(), &blocks, kv_heads * dim);
        let group = heads / kv_heads;
        let (first_member, members) = (self.first_member as usize, self.members as usize);
        blocks.into_par_iter().zip(dk).zip(dv).for_each(|((block, dk), dv)| {
            let (first, keys, queries) = (block.rows.start, block.rows.len(), block.queries().len());
            let mut s = vec![T::zero(); queries * keys];
            let mut dp = vec![T::zero(); queries * keys];
            for (kv_head, member) in
                (0..kv_heads).flat_map(|g| (first_member..first_member + members).map(move |m| (g, m)))
            {
                let head = kv_head * group + member;
                let (k, v) = (k.from(kv_head, first), v.from(kv_head, first));
                let (q, dout) = (q.from(head, first), dout.from(head, first));
                q.multiply(&mut MatrixMut::row_major(&mut s, keys), k.transposed(), dim, false);
                dout.multiply(&mut MatrixMut::row_major(&mut dp, keys), v.transposed(), dim, false);
                vectorized(
                    #[inline(always)]
                    || {
                        for (row, (s, dp)) in s.chunks_mut(keys).zip(dp.chunks_mut(keys)).enumerate() {
                            let statistics = &row_statistics[2 * ((first + row) * heads + head)..];
                            let (lse, delta) = (statistics[0], statistics[1]);
                            let seen = block.seen_by(row);
                            for (key, (s, dp)) in s.iter_mut().zip(dp).enumerate() {
                                let is_seen = seen.start <= key && key < seen.end;
                                let p = if is_seen { (scale * *s - lse).exp_in_loops() } else { T::zero() };
                                *s = p;
                                *dp = scale * p * (*dp - delta);
                            }
                        }
                    },
                );
                for (gradient, weights, b, result) in [(0, &mut s, dout, &mut *dv), (1, &mut dp, q, &mut *dk)] {
                    if only.is_none_or(|only| only == gradient) {
                        let rounded = RoundedWeights::round(weights, precision);
                        let data = &mut result[kv_head * dim..];
                        let mut c = MatrixMut { data, rows: keys, cols: dim, row_stride: kv_heads * dim };
                        rounded.parts(weights, keys).transposed().multiply(&mut c, b, queries, member > 0);
                    }
                }
            }
        });
    }
}
