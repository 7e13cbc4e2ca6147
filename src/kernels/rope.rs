//! Rotary position embedding (Su et al. 2021), half-split as in Hugging Face's models, forward and backward.

use rayon::prelude::*;

use super::variants::{by_width, launch_by_width};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width(include_str!("../../shaders/rope.wgsl"));

kernel! {
    /// Rotates the pairs `(x[t, h, i], x[t, h, i + head_dim / 2])` of `q` and of `k` by `sign` times the angle of the token's
    /// position, in place.
    pub struct Rope in "rope" of VARIANTS {
        /// `[tokens]`: each token's place in its sequence.
        index positions,
        /// `[any, head_dim]`: for each position the cosines, then the sines, of `head_dim / 2` angles.
        read table,
        /// `[tokens, heads, head_dim]`
        write q,
        /// `[tokens, kv_heads, head_dim]`
        write k,
        ;
        tokens: u32,
        heads: u32,
        kv_heads: u32,
        /// Even.
        head_dim: u32,
        /// 1: forward; -1: backward.
        sign: f32,
    }
}

impl Kernel for Rope<'_> {
    fn check(&self) {
        assert!(self.head_dim.is_multiple_of(2), "rope: head_dim {} is odd", self.head_dim);
        reaches::<Self>(self.positions, self.tokens as usize);
        for (x, heads) in [(&*self.q, self.heads), (&*self.k, self.kv_heads)] {
            reaches::<Self>(x, self.tokens as usize * heads as usize * self.head_dim as usize);
        }
    }

    fn launch(&self, _: Traits) -> Launch {
        let rows = self.tokens as usize * (self.heads as usize + self.kv_heads as usize);
        let elements = rows as f64 * f64::from(self.head_dim);
        launch_by_width(
            &VARIANTS,
            rows,
            self.head_dim as usize / 2,
            Cost { flops: 3.0 * elements, bytes: 8.0 * elements },
        )
    }

    fn twin<T: Real>(&mut self) {
        let (tokens, dim) = (self.tokens as usize, self.head_dim as usize);
        let sign = T::of(self.sign.into());
        let (positions, table) = (&self.positions.u32s()[..tokens], self.table.real::<T>());
        for (x, heads) in [(&mut *self.q, self.heads), (&mut *self.k, self.kv_heads)] {
            let x = x.real_mut::<T>().par_chunks_mut(heads as usize * dim);
            positions.par_iter().zip(x).for_each(|(&position, x)| {
                rotate(x, &table[position as usize * dim..][..dim], sign);
            });
        }
    }
}

/// Rotates the heads of a token by the angles whose cosines and sines a position has, times `sign`.
pub(super) fn rotate<T: Real>(x: &mut [T], angles: &[T], sign: T) {
    let half = angles.len() / 2;
    let (cosines, sines) = angles.split_at(half);
    for head in x.chunks_mut(2 * half) {
        let (a, b) = head.split_at_mut(half);
        for (((a, b), &cosine), &sine) in a.iter_mut().zip(b).zip(cosines).zip(sines) {
            let sine = sign * sine;
            (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
        }
    }
}
