//! Dropout: each value is left out with the probability `p`, the others are divided by `1 - p`. What is left out is told by a
//! hash of the row's key and the column: no state, the same on every device and however a batch is cut.

use rayon::prelude::*;

use super::variants::{launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/dropout.wgsl"), &[shared::GRID]);

kernel! {
    /// `y[r, c] = scale x[r, c]` where `hash(keys[first_key + r], site, c) >= threshold`, else 0; or `y += ...`
    pub struct Dropout in "dropout" of VARIANTS {
        /// `[any]`
        read keys,
        /// `[rows, cols]`
        read x,
        /// `[rows, cols]`
        write y,
        ;
        rows: u32,
        cols: u32,
        first_key: u32,
        site: u32,
        threshold: u32,
        scale: f32,
        accumulate: u32,
    }
}

/// What a probability `p` of being left out makes of values: of `2^32` hashes those below the threshold are left out, and what is
/// kept is multiplied by `scale`, so that the mean stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// `2^32 p`
    pub threshold: u32,
    /// `1 / (1 - p)`
    pub scale: f32,
}

impl Chance {
    /// Of a probability from 0 to below 1.
    pub fn of(p: f64) -> Self {
        Self { threshold: (p * 2f64.powi(32)).round() as u32, scale: (1.0 / (1.0 - p)) as f32 }
    }
}

/// A hash of a word: every bit of it depends on every bit of `x`. A bijection.
#[inline]
pub fn hash(x: u32) -> u32 {
    let x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
    let x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

impl Kernel for Dropout<'_> {
    fn check(&self) {
        assert!(self.cols.is_multiple_of(4), "dropout takes whole groups of four columns");
        let elements = self.rows as usize * self.cols as usize;
        reaches::<Self>(self.keys, self.first_key as usize + self.rows as usize);
        reaches::<Self>(self.x, elements);
        reaches::<Self>(self.y, elements);
    }

    fn launch(&self, _: Traits) -> Launch {
        let elements = self.rows as usize * self.cols as usize;
        let cost = Cost { flops: 10.0 * elements as f64, bytes: 8.0 * elements as f64 };
        launch_flat(&VARIANTS[0], elements / 4, cost)
    }

    fn twin<T: Real>(&mut self) {
        let Self { rows, cols, first_key, site, threshold, scale, accumulate, .. } = *self;
        let (elements, cols) = (rows as usize * cols as usize, cols as usize);
        let (keys, x) = (&self.keys.u32s()[first_key as usize..], &self.x.real::<T>()[..elements]);
        let y = &mut self.y.real_mut::<T>()[..elements];
        let scale = T::of(scale.into());
        y.par_chunks_mut(cols).zip(x.par_chunks(cols)).zip(keys).for_each(|((y, x), key)| {
            let row = hash(key ^ site);
            for (column, (y, &x)) in (0u32..).zip(y.iter_mut().zip(x)) {
                let kept = if hash(row.wrapping_add(column)) >= threshold { scale * x } else { T::of(0.0) };
                *y = if accumulate != 0 { *y + kept } else { kept };
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_left_out_as_asked() {
        for p in [0.05, 0.1, 0.5] {
            let dropped = (0..1_000_000u32).filter(|&x| hash(x) < Chance::of(p).threshold).count() as f64 / 1e6;
            // Five standard deviations of a million draws.
            assert!((dropped - p).abs() < 5.0 * (p * (1.0 - p) / 1e6f64).sqrt(), "{p}: {dropped}");
        }
    }
}
