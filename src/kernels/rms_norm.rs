//! RMSNorm, forward (Zhang and Sennrich 2019; Gemma's weight is stored less 1: `offset` 1).

use rayon::prelude::*;

use super::variants::{launch_reducing_rows, reducing_rows};
use crate::device::{Kernel, Real, kernel, reaches, sum_over, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 6] = reducing_rows(include_str!("../../shaders/rms_norm.wgsl"));

kernel! {
    /// `y (+)= x / sqrt(mean(x^2) + epsilon) * (offset + weight)`, row by row.
    pub struct RmsNorm in "rms_norm" of VARIANTS {
        /// `[rows, cols]`
        read x,
        /// `[cols]`
        read weight,
        /// `[rows, cols]`
        write y,
        /// `[rows]`: `1 / sqrt(mean(x^2) + epsilon)`, kept for the backward pass.
        write rstd,
        ;
        rows: u32,
        cols: u32,
        epsilon: f32,
        /// 1 where the stored weight is the scale less 1 (Gemma), else 0.
        offset: f32,
        /// Whether it is added to `y` (1), or overwrites it (0).
        accumulate: u32,
    }
}

impl Kernel for RmsNorm<'_> {
    fn check(&self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        reaches::<Self>(self.x, rows * cols);
        reaches::<Self>(self.weight, cols);
        reaches::<Self>(self.y, rows * cols);
        reaches::<Self>(self.rstd, rows);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let cost = Cost { flops: 4.0 * (rows * cols) as f64, bytes: 8.0 * (rows * cols) as f64 };
        launch_reducing_rows(&VARIANTS, traits, rows.div_ceil(2), cols, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let (epsilon, offset) = (T::of(self.epsilon.into()), T::of(self.offset.into()));
        let accumulate = self.accumulate != 0;
        let (x, weight) = (&self.x.real::<T>()[..rows * cols], self.weight.real::<T>());
        let (y, rstd) = (self.y.real_mut::<T>(), self.rstd.real_mut::<T>());
        (x.par_chunks(cols), y.par_chunks_mut(cols), rstd.par_iter_mut()).into_par_iter().for_each(|(x, y, rstd)| {
            let mut n = vec![T::zero(); if accumulate { cols } else { 0 }];
            *rstd = normalise(x, &weight[..cols], epsilon, offset, if accumulate { &mut n } else { &mut *y });
            for (y, n) in y.iter_mut().zip(n) {
                *y += n;
            }
        });
    }
}

/// `y = x rstd (offset + weight)` of a row; returns its `rstd`.
pub(super) fn normalise<T: Real>(x: &[T], weight: &[T], epsilon: T, offset: T, y: &mut [T]) -> T {
    let cols = x.len();
    let (weight, y) = (&weight[..cols], &mut y[..cols]);
    vectorized(
        #[inline(always)]
        || {
            let [squares] = sum_over([x], |[x]| [x * x]);
            let rstd = T::one() / (squares / T::of(cols as f64) + epsilon).sqrt();
            for c in 0..cols {
                y[c] = x[c] * rstd * (offset + weight[c]);
            }
            rstd
        },
    )
}
