//! The value network's linear head, backward. Its bias's gradient is [`ColumnSum`](super::ColumnSum) of `dvalue`.

use rayon::prelude::*;

use super::variants::{by_width_in_blocks, launch_by_width};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width_in_blocks(include_str!("../../shaders/value_head_backward.wgsl"));

kernel! {
    /// `dh = dvalue weight` and, block by block of rows, `partial = sum of dvalue h`.
    pub struct ValueHeadBackward in "value_head_backward" of VARIANTS {
        /// `[rows, cols]`
        read h,
        /// `[cols]`
        read weight,
        /// `[rows]`
        read dvalue,
        /// `[rows, cols]`
        write dh,
        /// `[ceil(rows / block_rows), cols]`
        write partial,
        ;
        rows: u32,
        cols: u32,
        /// Rows that one invocation adds up.
        block_rows: u32,
    }
}

impl Kernel for ValueHeadBackward<'_> {
    fn check(&self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        reaches::<Self>(self.h, rows * cols);
        reaches::<Self>(self.weight, cols);
        reaches::<Self>(self.dvalue, rows);
        reaches::<Self>(self.dh, rows * cols);
        reaches::<Self>(self.partial, rows.div_ceil(self.block_rows as usize) * cols);
    }

    fn launch(&self, _: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let cost = Cost { flops: 3.0 * (rows * cols) as f64, bytes: 8.0 * (rows * cols) as f64 };
        launch_by_width(&VARIANTS, rows.div_ceil(self.block_rows as usize), cols, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols, block) = (self.rows as usize, self.cols as usize, self.block_rows as usize);
        let (h, weight) = (&self.h.real::<T>()[..rows * cols], &self.weight.real::<T>()[..cols]);
        let dvalue = &self.dvalue.real::<T>()[..rows];
        let (dh, partial) = (self.dh.real_mut::<T>(), self.partial.real_mut::<T>());
        let inputs = (h.par_chunks(block * cols), dvalue.par_chunks(block)).into_par_iter();
        let outputs = (dh.par_chunks_mut(block * cols), partial.par_chunks_mut(cols)).into_par_iter();
        inputs.zip(outputs).for_each(|((h, dvalue), (dh, partial))| {
            partial.fill(T::zero());
            for ((h, dh), &dvalue) in h.chunks(cols).zip(dh.chunks_mut(cols)).zip(dvalue) {
                for c in 0..cols {
                    dh[c] = dvalue * weight[c];
                    partial[c] += dvalue * h[c];
                }
            }
        });
    }
}
