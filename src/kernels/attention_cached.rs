//! Attention of one new token a sequence over the keys and values that a cache holds: decoding.

use rayon::prelude::*;

use super::AttentionCombine;
use super::attention::{Heads, MAX_HEAD_DIM};
use super::split_heads::head_rows;
use super::variants::{ROW_LANES, shared::GRID};
use crate::device::{Device, Kernel, Matrix, Real, Tensor, dots, kernel, reaches, vectorized, word};
use crate::gpu::{Cost, Launch, Needs, Subgroups, Traits, Variant, line};

const SOURCE: &str = include_str!("../../shaders/attention_cached.wgsl");
const SUBGROUP: &str = include_str!("../../shaders/shared/attention_cached_subgroup.wgsl");
const GROUPS: &str = include_str!("../../shaders/shared/attention_cached_groups.wgsl");

static VARIANTS: [Variant; 2] = [
    Variant { name: "subgroup", source: SOURCE, includes: &[GRID, SUBGROUP], needs: Needs::Subgroups },
    Variant { name: "groups", source: SOURCE, includes: &[GRID, GROUPS], needs: Needs::Nothing },
];

kernel! {
    /// `s = scale q . k` over the `count` cached keys of the row's sequence, `o = sum softmax(s) v`; of several parts of the keys
    /// each by itself, for [`AttentionCombine`].
    pub struct AttentionCached in "attention_cached" of VARIANTS {
        /// `[rows, 2]`: the cache's row of the first key, and how many there are; at least one.
        index spans,
        /// `[rows, heads, head_dim]`
        read q,
        /// `[any, kv_heads, head_dim]`
        read k,
        /// `[any, kv_heads, head_dim]`
        read v,
        /// `[parts, rows, heads, head_dim]`
        write o,
        /// `[parts, rows, heads]`: `log sum exp(s)`; below every score where a part has no key.
        write lse,
        ;
        rows: u32,
        heads: u32,
        kv_heads: u32,
        scale: f32,
        /// Into how many parts the keys are split.
        parts: u32,
        /// Keys of a part.
        chunk: u32,
        ;
        /// Values a head.
        head_dim: u32,
        /// The most keys of a row.
        longest: u32,
    }
}

/// `LOWEST` of the shader.
const LOWEST: f64 = -1e30;

/// Workgroups that a large GPU wants: with fewer of them, each takes one head in place of two.
const MANY_WORKGROUPS: usize = 256;

/// Keys that a GPU's workgroup takes at most. It does not depend on the other rows, so that a row's result does not either.
const CHUNK: usize = 512;

/// What [`AttentionCached::run`] reads, of `rows` new tokens.
#[derive(Clone, Copy)]
pub struct CachedKeys<'a> {
    /// `[rows, 2]`: the cache's row of the first key, and how many there are; at least one.
    pub spans: &'a Tensor,
    /// `[rows, heads, head_dim]`
    pub q: &'a Tensor,
    /// `[any, kv_heads, head_dim]`
    pub k: &'a Tensor,
    /// `[any, kv_heads, head_dim]`
    pub v: &'a Tensor,
    pub rows: usize,
    /// The most keys of a row.
    pub longest: usize,
    /// What a score is multiplied by.
    pub scale: f32,
}

/// What [`AttentionCached::run`] writes, for as many parts as [`AttentionCached::most_parts`] says.
pub struct CachedOutput<'a> {
    /// `[rows, heads, head_dim]`
    pub o: &'a mut Tensor,
    /// Scratch: `[parts, rows, heads, head_dim]`.
    pub part_o: &'a mut Tensor,
    /// Scratch: `[parts, rows, heads]`.
    pub part_lse: &'a mut Tensor,
}

impl AttentionCached<'_> {
    /// Into how many parts the keys of rows are split that have at most `longest`.
    pub fn most_parts(longest: usize) -> usize {
        longest.div_ceil(CHUNK).max(1)
    }

    /// Writes `o`: on a GPU in parts of `CHUNK` keys, which are put together in their order.
    pub fn run(device: &Device, heads: Heads, keys: CachedKeys, output: CachedOutput) {
        let CachedKeys { spans, q, k, v, rows, longest, scale } = keys;
        let CachedOutput { o, part_o, part_lse } = output;
        let chunk = if device.is_real_gpu() { CHUNK } else { longest.max(1) };
        let parts = longest.div_ceil(chunk).max(1);
        device.run(AttentionCached {
            spans,
            q,
            k,
            v,
            o: if parts > 1 { &mut *part_o } else { &mut *o },
            lse: &mut *part_lse,
            rows: word(rows),
            heads: word(heads.heads),
            kv_heads: word(heads.kv_heads),
            scale,
            parts: word(parts),
            chunk: word(chunk),
            head_dim: word(heads.head_dim),
            longest: word(longest),
        });
        if parts > 1 {
            device.run(AttentionCombine {
                outputs: part_o,
                lse: part_lse,
                o,
                parts: word(parts),
                rows: word(rows * heads.heads),
                cols: word(heads.head_dim),
            });
        }
    }

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
        let results = self.parts as usize * rows * heads;
        reaches::<Self>(self.o, results * head_dim);
        reaches::<Self>(self.lse, results);
        reaches::<Self>(self.k, self.v.len());
        reaches::<Self>(self.v, self.k.len());
    }

    fn launch(&self, traits: Traits) -> Launch {
        let Heads { heads, kv_heads, head_dim } = self.shape();
        let (group, row_heads) = (heads / kv_heads, self.rows as usize * kv_heads);
        let workgroups = |members| self.parts as usize * row_heads * group.div_ceil(members);
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
        let (rows, parts, chunk) = (self.rows as usize, self.parts as usize, self.chunk as usize);
        let (group, scale) = (heads / kv_heads, T::of(self.scale.into()));
        let (spans, q) = (&self.spans.u32s()[..2 * rows], self.q.real::<T>());
        let (k, v) = (self.k.real::<T>(), self.v.real::<T>());
        let o = &mut self.o.real_mut::<T>()[..parts * rows * heads * dim];
        let lse = &mut self.lse.real_mut::<T>()[..parts * rows * heads];
        // A row's result depends on its own sequence alone: every product here is over that.
        o.par_chunks_mut(group * dim).zip(lse.par_chunks_mut(group)).enumerate().for_each(|(index, (o, lse))| {
            let (part, row, kv_head) = (index / kv_heads / rows, index / kv_heads % rows, index % kv_heads);
            let before = (part * chunk).min(spans[2 * row + 1] as usize);
            let first = spans[2 * row] as usize + before;
            let count = chunk.min(spans[2 * row + 1] as usize - before);
            if count == 0 {
                o.fill(T::zero());
                lse.fill(T::of(LOWEST));
                return;
            }
            let q = Matrix::row_major(&q[(row * heads + kv_head * group) * dim..], dim);
            let (k, v) = (head_rows(k, first, kv_head, kv_heads, dim), head_rows(v, first, kv_head, kv_heads, dim));
            let mut scores = vec![T::zero(); group * count];
            dots(&mut scores, k, q, dim, count);
            for (s, lse) in scores.chunks_mut(count).zip(lse) {
                let largest = s.iter().copied().reduce(T::max).unwrap_or(T::zero());
                let mut sum = T::zero();
                for s in &mut *s {
                    *s = (scale * (*s - largest)).exp();
                    sum += *s;
                }
                s.iter_mut().for_each(|s| *s /= sum);
                *lse = scale * largest + sum.ln();
            }
            vectorized(
                #[inline(always)]
                || add_values(o, &scores, v, count, dim),
            );
        });
    }
}

/// `o[member] = sum over keys of scores[member, key] v[key]`
#[inline(always)] // so that it is compiled with the processor's features
fn add_values<T: Real>(o: &mut [T], scores: &[T], v: Matrix<'_, T>, keys: usize, dim: usize) {
    o.fill(T::zero());
    for member in 0..o.len() / dim {
        let o = &mut o[member * dim..][..dim];
        for key in 0..keys {
            let (p, v) = (scores[member * keys + key], &v.data[key * v.row_stride..][..dim]);
            for i in 0..dim {
                o[i] += p * v[i];
            }
        }
    }
}
