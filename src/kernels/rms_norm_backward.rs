//! RMSNorm, backward to its input.

use rayon::prelude::*;

use super::variants::{launch_reducing_rows, reducing_rows};
use crate::device::{Kernel, Real, kernel, reaches, sum_over, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 6] = reducing_rows(include_str!("../../shaders/rms_norm_backward.wgsl"));

kernel! {
    /// With `n = x rstd` and `g = dy (offset + weight)`: `dx (+)= rstd (g - n mean(g n))`, row by row.
    pub struct RmsNormBackward in "rms_norm_backward" of VARIANTS {
        /// `[rows, cols]`
        read dy,
        /// `[rows, cols]`: the forward pass's input.
        read x,
        /// `[cols]`
        read weight,
        /// `[rows]`: from the forward pass.
        read rstd,
        /// `[rows, cols]`
        write dx,
        ;
        rows: u32,
        cols: u32,
        /// As in the forward pass.
        offset: f32,
        /// 1: add to `dx`, where the residual stream's own gradient already is; 0: overwrite.
        accumulate: u32,
    }
}

impl Kernel for RmsNormBackward<'_> {
    fn check(&self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        for tensor in [self.dy, self.x, self.dx] {
            reaches::<Self>(tensor, rows * cols);
        }
        reaches::<Self>(self.weight, cols);
        reaches::<Self>(self.rstd, rows);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let cost = Cost { flops: 9.0 * (rows * cols) as f64, bytes: 12.0 * (rows * cols) as f64 };
        launch_reducing_rows(&VARIANTS, traits, rows, cols, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let offset = T::of(self.offset.into());
        let (dy, x, weight) = (&self.dy.real::<T>()[..rows * cols], self.x.real::<T>(), self.weight.real::<T>());
        let (rstd, dx) = (self.rstd.real::<T>(), self.dx.real_mut::<T>());
        let accumulate = self.accumulate != 0;
        let rows = (dy.par_chunks(cols), x.par_chunks(cols), rstd.par_iter(), dx.par_chunks_mut(cols));
        rows.into_par_iter().for_each(|(dy, x, &rstd, dx)| {
            let (dy, x, weight, dx) = (&dy[..cols], &x[..cols], &weight[..cols], &mut dx[..cols]);
            vectorized(
                #[inline(always)]
                || {
                    let g = |dy: T, weight: T| dy * (offset + weight);
                    let [projection] = sum_over([dy, weight, x], |[dy, weight, x]| [g(dy, weight) * x]);
                    let mean = projection * rstd / T::of(cols as f64);
                    for c in 0..cols {
                        let gradient = rstd * (g(dy[c], weight[c]) - x[c] * rstd * mean);
                        dx[c] = if accumulate { dx[c] + gradient } else { gradient };
                    }
                },
            );
        });
    }
}
