//! Rotary position embedding of new tokens on their way into a cache: decoding.

use super::rope::rotate;
use super::variants::{by_width, launch_by_width};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width(include_str!("../../shaders/rope_cached.wgsl"));

kernel! {
    /// As [`Rope`](super::Rope) of `q`, in place, and of `k` with `cached_k[places[t]] = k[t]`; `cached_v[places[t]] = v[t]`. (The
    /// places are distinct, and below the rows of the cache.)
    pub struct RopeCached in "rope_cached" of VARIANTS {
        /// `[tokens]`: each token's place in its sequence.
        index positions,
        /// `[tokens]`: its row of the cache.
        index places,
        /// `[any, head_dim]`: for each position the cosines, then the sines, of `head_dim / 2` angles.
        read table,
        /// `[tokens, heads, head_dim]`
        write q,
        /// `[tokens, kv_heads, head_dim]`
        read k,
        /// `[tokens, kv_heads, head_dim]`
        read v,
        /// `[any, kv_heads, head_dim]`
        write cached_k,
        /// `[any, kv_heads, head_dim]`
        write cached_v,
        ;
        tokens: u32,
        heads: u32,
        kv_heads: u32,
        /// Even.
        head_dim: u32,
    }
}

impl Kernel for RopeCached<'_> {
    fn check(&self) {
        assert!(self.head_dim.is_multiple_of(2), "rope_cached: head_dim {} is odd", self.head_dim);
        reaches::<Self>(self.positions, self.tokens as usize);
        reaches::<Self>(self.places, self.tokens as usize);
        for (x, heads) in [(&*self.q, self.heads), (self.k, self.kv_heads), (self.v, self.kv_heads)] {
            reaches::<Self>(x, self.tokens as usize * heads as usize * self.head_dim as usize);
        }
    }

    fn launch(&self, _: Traits) -> Launch {
        let rows = self.tokens as usize * (self.heads as usize + 2 * self.kv_heads as usize);
        let elements = rows as f64 * f64::from(self.head_dim);
        let cost = Cost { flops: 3.0 * elements, bytes: 8.0 * elements };
        launch_by_width(&VARIANTS, rows, self.head_dim as usize / 2, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (tokens, dim) = (self.tokens as usize, self.head_dim as usize);
        let (width, kv_width) = (self.heads as usize * dim, self.kv_heads as usize * dim);
        let (positions, places) = (&self.positions.u32s()[..tokens], self.places.u32s());
        let table = self.table.real::<T>();
        let (q, k, v) = (self.q.real_mut::<T>(), self.k.real::<T>(), self.v.real::<T>());
        let (cached_k, cached_v) = (self.cached_k.real_mut::<T>(), self.cached_v.real_mut::<T>());
        for (token, (&position, &place)) in positions.iter().zip(places).enumerate() {
            let angles = &table[position as usize * dim..][..dim];
            let new = token * kv_width..(token + 1) * kv_width;
            let cached = place as usize * kv_width..(place as usize + 1) * kv_width;
            rotate(&mut q[token * width..][..width], angles, T::one());
            cached_k[cached.clone()].copy_from_slice(&k[new.clone()]);
            rotate(&mut cached_k[cached.clone()], angles, T::one());
            cached_v[cached].copy_from_slice(&v[new]);
        }
    }
}
