//! A bias on every row. Its gradient is [`ColumnSum`](super::ColumnSum).

use rayon::prelude::*;

use super::variants::{by_width, launch_by_width};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width(include_str!("../../shaders/add_bias.wgsl"));

kernel! {
    /// `y[r, c] += bias[c]`.
    pub struct AddBias in "add_bias" of VARIANTS {
        /// `[cols]`
        read bias,
        /// `[rows, cols]`
        write y,
        ;
        rows: u32,
        cols: u32,
    }
}

impl Kernel for AddBias<'_> {
    fn check(&self) {
        reaches::<Self>(self.bias, self.cols as usize);
        reaches::<Self>(self.y, self.rows as usize * self.cols as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let elements = (rows * cols) as f64;
        launch_by_width(&VARIANTS, rows, cols, Cost { flops: elements, bytes: 8.0 * elements })
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let bias = &self.bias.real::<T>()[..cols];
        let y = &mut self.y.real_mut::<T>()[..rows * cols];
        y.par_chunks_mut(cols).for_each(|y| y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias));
    }
}
