//! RMSNorm, backward to its weight: the first of two steps of a sum over rows ([`ColumnSum`](super::ColumnSum) is
//! the second), so that no two invocations write to one place.

use rayon::prelude::*;

use super::variants::{by_width_in_blocks, launch_by_width};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width_in_blocks(include_str!("../../shaders/rms_norm_backward_weight.wgsl"));

kernel! {
    /// `partial[b, c] = sum over the rows r of block b of dy[r, c] x[r, c] rstd[r]`.
    pub struct RmsNormBackwardWeight in "rms_norm_backward_weight" of VARIANTS {
        /// `[rows, cols]`
        read dy,
        /// `[rows, cols]`: the forward pass's input.
        read x,
        /// `[rows]`: from the forward pass.
        read rstd,
        /// `[ceil(rows / block_rows), cols]`
        write partial,
        ;
        rows: u32,
        cols: u32,
        /// Rows that one invocation adds up.
        block_rows: u32,
    }
}

impl Kernel for RmsNormBackwardWeight<'_> {
    fn check(&self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        reaches::<Self>(self.dy, rows * cols);
        reaches::<Self>(self.x, rows * cols);
        reaches::<Self>(self.rstd, rows);
        reaches::<Self>(self.partial, rows.div_ceil(self.block_rows as usize) * cols);
    }

    fn launch(&self, _: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let cost = Cost { flops: 3.0 * (rows * cols) as f64, bytes: 8.0 * (rows * cols) as f64 };
        launch_by_width(&VARIANTS, rows.div_ceil(self.block_rows as usize), cols, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols, block) = (self.rows as usize, self.cols as usize, self.block_rows as usize);
        let (dy, x) = (&self.dy.real::<T>()[..rows * cols], &self.x.real::<T>()[..rows * cols]);
        let (rstd, partial) = (&self.rstd.real::<T>()[..rows], self.partial.real_mut::<T>());
        let blocks = (dy.par_chunks(block * cols), x.par_chunks(block * cols), rstd.par_chunks(block));
        (blocks.into_par_iter(), partial.par_chunks_mut(cols)).into_par_iter().for_each(|((dy, x, rstd), partial)| {
            partial.fill(T::zero());
            for ((dy, x), &rstd) in dy.chunks(cols).zip(x.chunks(cols)).zip(rstd) {
                for ((sum, &dy), &x) in partial.iter_mut().zip(dy).zip(x) {
                    *sum += dy * x * rstd;
                }
            }
        });
    }
}
