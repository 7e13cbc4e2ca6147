//! Sums over rows: a bias's gradient, and the second step of every gradient that is a sum over tokens.

use rayon::prelude::*;

use super::variants::{by_width_in_blocks, launch_by_width};
use crate::device::{Device, Kernel, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width_in_blocks(include_str!("../../shaders/column_sum.wgsl"));

kernel! {
    /// `sums[b, c] (+)= sum over the rows r of block b of x[r, c]`.
    pub struct ColumnSum in "column_sum" of VARIANTS {
        /// `[rows, cols]`
        read x,
        /// `[ceil(rows / block_rows), cols]`
        write sums,
        ;
        rows: u32,
        cols: u32,
        /// Rows that one invocation adds up.
        block_rows: u32,
        /// 1: add to `sums`; 0: overwrite.
        accumulate: u32,
    }
}

/// Rows that one invocation of a first step adds up.
pub const BLOCK_ROWS: usize = 64;

impl ColumnSum<'_> {
    /// `sums[c] += sum over r of x[r, c]` in two steps, so that many invocations share the rows. `partial` is
    /// scratch for `ceil(rows / BLOCK_ROWS)` rows.
    pub fn in_two_steps(
        device: &Device,
        x: &Tensor,
        partial: &mut Tensor,
        sums: &mut Tensor,
        rows: usize,
        cols: usize,
    ) {
        let block_rows = word(BLOCK_ROWS);
        device.run(ColumnSum { x, sums: partial, rows: word(rows), cols: word(cols), block_rows, accumulate: 0 });
        ColumnSum::of_partial(device, partial, sums, rows.div_ceil(BLOCK_ROWS), cols);
    }

    /// The second step alone: `sums[c] += sum over b of partial[b, c]`.
    pub fn of_partial(device: &Device, partial: &Tensor, sums: &mut Tensor, blocks: usize, cols: usize) {
        let (rows, cols) = (word(blocks), word(cols));
        device.run(ColumnSum { x: partial, sums, rows, cols, block_rows: rows.max(1), accumulate: 1 });
    }

    /// `sums[c] = sum over l of layers[l, c]`.
    pub fn of_layers(device: &Device, layers: &Tensor, sums: &mut Tensor, count: usize, cols: usize) {
        let (rows, cols) = (word(count), word(cols));
        device.run(ColumnSum { x: layers, sums, rows, cols, block_rows: rows.max(1), accumulate: 0 });
    }
}

impl Kernel for ColumnSum<'_> {
    fn check(&self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        reaches::<Self>(self.x, rows * cols);
        reaches::<Self>(self.sums, rows.div_ceil(self.block_rows as usize) * cols);
    }

    fn launch(&self, _: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let cost = Cost { flops: (rows * cols) as f64, bytes: 4.0 * (rows * cols) as f64 };
        launch_by_width(&VARIANTS, rows.div_ceil(self.block_rows as usize), cols, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols, block) = (self.rows as usize, self.cols as usize, self.block_rows as usize);
        let (x, sums) = (&self.x.real::<T>()[..rows * cols], self.sums.real_mut::<T>());
        let accumulate = self.accumulate != 0;
        (x.par_chunks(block * cols), sums.par_chunks_mut(cols)).into_par_iter().for_each(|(x, sums)| {
            if !accumulate {
                sums.fill(T::zero());
            }
            for x in x.chunks(cols) {
                for (sum, &x) in sums.iter_mut().zip(x) {
                    *sum += x;
                }
            }
        });
    }
}
