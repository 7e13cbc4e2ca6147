//! The residual add fused with the RMSNorm that follows it: the sum is written once and read from registers.

use rayon::prelude::*;

use super::variants::{launch_reducing_rows, reducing_rows};
use crate::device::{Kernel, Real, kernel, reaches, sum_over, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 6] = reducing_rows(include_str!("../../shaders/add_rms_norm.wgsl"));

kernel! {
    /// `h = x + delta`, `y = h / sqrt(mean(h^2) + epsilon) * (offset + weight)`, row by row. Without `add`, `h = x`: a norm
    /// that was computed before comes out again to the bit.
    pub struct AddRmsNorm in "add_rms_norm" of VARIANTS {
        /// `[rows, cols]`: the residual stream before.
        read x,
        /// `[rows, cols]`: what a block adds to it; not read without `add`.
        read delta,
        /// `[cols]`
        read weight,
        /// `[rows, cols]`: the residual stream after.
        write h,
        /// `[rows, cols]`
        write y,
        /// `[rows]`: `1 / sqrt(mean(h^2) + epsilon)`, kept for the backward pass.
        write rstd,
        ;
        rows: u32,
        cols: u32,
        epsilon: f32,
        /// 1 where the stored weight is the scale less 1 (Gemma), else 0.
        offset: f32,
        /// 1 to add `delta`, 0 to leave it out.
        add: u32,
    }
}

impl Kernel for AddRmsNorm<'_> {
    fn check(&self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        for tensor in [self.x, self.h, self.y] {
            reaches::<Self>(tensor, rows * cols);
        }
        if self.add != 0 {
            reaches::<Self>(self.delta, rows * cols);
        }
        reaches::<Self>(self.weight, cols);
        reaches::<Self>(self.rstd, rows);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let bytes = if self.add == 0 { 12.0 } else { 16.0 } * (rows * cols) as f64;
        let cost = Cost { flops: 5.0 * (rows * cols) as f64, bytes };
        launch_reducing_rows(&VARIANTS, traits, rows, cols, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let (epsilon, offset, add) = (T::of(self.epsilon.into()), T::of(self.offset.into()), self.add != 0);
        let (x, delta, weight) = (&self.x.real::<T>()[..rows * cols], self.delta.real::<T>(), self.weight.real::<T>());
        let (h, y, rstd) = (self.h.real_mut::<T>(), self.y.real_mut::<T>(), self.rstd.real_mut::<T>());
        let inputs = x.par_chunks(cols).enumerate();
        let outputs = (h.par_chunks_mut(cols), y.par_chunks_mut(cols), rstd.par_iter_mut());
        (inputs, outputs.into_par_iter()).into_par_iter().for_each(|((row, x), (h, y, rstd))| {
            let (x, h, y, weight) = (&x[..cols], &mut h[..cols], &mut y[..cols], &weight[..cols]);
            vectorized(
                #[inline(always)]
                || {
                    h.copy_from_slice(x);
                    if add {
                        let delta = &delta[row * cols..][..cols];
                        for c in 0..cols {
                            h[c] += delta[c];
                        }
                    }
                    let [squares] = sum_over([h], |[h]| [h * h]);
                    *rstd = T::one() / (squares / T::of(cols as f64) + epsilon).sqrt();
                    for c in 0..cols {
                        y[c] = h[c] * *rstd * (offset + weight[c]);
                    }
                },
            );
        });
    }
}
