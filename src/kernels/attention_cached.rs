//! Attention of one new token a sequence over the keys and values that a cache holds: decoding.

use rayon::prelude::*;

use super::attention::{Heads, MAX_HEAD_DIM, head_rows};
use super::variants::{ROW_LANES, shared::GRID};
use crate::device::{Kernel, Matrix, MatrixMut, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Subgroups, Traits, Variant, line};

const SOURCE: &str = include_str!("../../shaders/attention_cached.wgsl");
const SUBGROUP: &str = include_str!("../../shaders/shared/attention_cached_subgroup.wgsl");
const GROUPS: &str = include_str!("../../shaders/shared/attention_cached_groups.wgsl");

static VARIANTS: [Variant; 2] = [
    Variant { name: "subgroup", source: SOURCE, includes: &[GRID, SUBGROUP], subgroups: true },
    Variant { name: "groups", source: SOURCE, includes: &[GRID, GROUPS], subgroups: false },
];

kernel! {
    /// `s = scale q . k` over the `count` cached keys of the row's sequence, `o = sum softmax(s) v`.
    pub struct AttentionCached in "attention_cached" of VARIANTS {
        /// `[rows, 2]`: the cache's row of the first key, and how many there are; at least one.
        index spans,
        /// `[rows, heads, head_dim]`
        read q,
        /// `[any, kv_heads, head_dim]`
        read k,
        /// `[any, kv_heads, head_dim]`
        read v,
        /// `[rows, heads, head_dim]`
        write o,
        ;
        rows: u32,
        heads: u32,
        kv_heads: u32,
        scale: f32,
        ;
        /// Values a head.
        head_dim: u32,
        /// The most keys of a row.
        longest: u32,
    }
}

/// Workgroups that a large GPU wants: with fewer of them, each takes one head in place of two.
const MANY_WORKGROUPS: usize = 256;

impl AttentionCached<'_> {
    fn shape(&self) -> Heads {
        let [heads, kv_heads, head_dim] = [self.heads, self.kv_heads, self.head_dim].map(|size| size as usize);
        Heads { heads, kv_heads, head_dim }
    }
}

impl Kernel for AttentionCached<'_> {
    fn check(&self) {
        let Heads { heads, kv_heads, head_dim } = self.shape();
        let rows = self.rows as usize;
        assert!(heads.is_multiple_of(kv_heads), "attention_cached: {kv_heads} key heads do not divide {heads} heads");
        assert!(head_dim.is_multiple_of(4) && head_dim <= MAX_HEAD_DIM, "attention_cached: head_dim {head_dim}");
        reaches::<Self>(self.spans, 2 * rows);
        reaches::<Self>(self.q, rows * heads * head_dim);
        reaches::<Self>(self.o, rows * heads * head_dim);
        reaches::<Self>(self.k, self.v.len());
        reaches::<Self>(self.v, self.k.len());
    }

    fn launch(&self, traits: Traits) -> Launch {
        let Heads { heads, kv_heads, head_dim } = self.shape();
        let (group, row_heads) = (heads / kv_heads, self.rows as usize * kv_heads);
        let workgroups = |members| row_heads * group.div_ceil(members);
        let (variant, members, lanes) = match traits.subgroups {
            Subgroups::OfSize(size) if traits.software => {
                let quads = (head_dim / 4).div_ceil(size as usize);
                (&VARIANTS[0], group.min(4), vec![(ROW_LANES, f64::from(size)), ("QUADS", quads as f64)])
            }
            _ => {
                let members = if workgroups(2) < MANY_WORKGROUPS { 1 } else { group.min(2) };
                let shares = head_dim.div_ceil(8).next_power_of_two().max(8);
                (&VARIANTS[1], members, vec![("SHARES", shares as f64)])
            }
        };
        let work = f64::from(self.rows) * f64::from(self.longest) * head_dim as f64;
        Launch {
            variant,
            constants: [vec![("HEAD_DIM", head_dim as f64), ("MEMBERS", members as f64)], lanes].concat(),
            workgroups: line(workgroups(members)),
            cost: Cost { flops: 4.0 * work * heads as f64, bytes: 8.0 * work * kv_heads as f64 },
        }
    }

    fn twin<T: Real>(&mut self) {
        let Heads { heads, kv_heads, head_dim: dim } = self.shape();
        let (rows, group, scale) = (self.rows as usize, heads / kv_heads, T::of(self.scale.into()));
        let (spans, q) = (&self.spans.u32s()[..2 * rows], self.q.real::<T>());
        let (k, v) = (self.k.real::<T>(), self.v.real::<T>());
        let o = &mut self.o.real_mut::<T>()[..rows * heads * dim];
        // A row's result depends on its own sequence alone: every product here is over that.
        o.par_chunks_mut(group * dim).enumerate().for_each(|(index, o)| {
            let (row, kv_head) = (index / kv_heads, index % kv_heads);
            let (first, count) = (spans[2 * row] as usize, spans[2 * row + 1] as usize);
            let q = Matrix::row_major(&q[(row * heads + kv_head * group) * dim..], dim);
            let (k, v) = (head_rows(k, first, kv_head, kv_heads, dim), head_rows(v, first, kv_head, kv_heads, dim));
            let mut scores = vec![T::zero(); group * count];
            T::gemm(MatrixMut::row_major(&mut scores, count), q, k.transposed(), dim, false);
            for s in scores.chunks_mut(count) {
                let largest = s.iter().copied().reduce(T::max).unwrap_or(T::zero());
                let mut sum = T::zero();
                for s in &mut *s {
                    *s = (scale * (*s - largest)).exp();
                    sum += *s;
                }
                s.iter_mut().for_each(|s| *s /= sum);
            }
            T::gemm(MatrixMut::row_major(o, dim), Matrix::row_major(&scores, count), v, count, false);
        });
    }
}
