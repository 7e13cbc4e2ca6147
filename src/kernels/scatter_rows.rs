//! Rows into places: new keys and values into a cache.

use super::gather_rows::NONE;
use super::variants::{by_width, launch_by_width};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width(include_str!("../../shaders/scatter_rows.wgsl"));

kernel! {
    /// `y[index[i]] = x[i]`, for the rows whose `index[i]` is not [`NONE`]. (These are distinct, and below the rows of `y`.)
    pub struct ScatterRows in "scatter_rows" of VARIANTS {
        /// `[rows]`
        index index,
        /// `[rows, cols]`
        read x,
        /// `[any, cols]`
        write y,
        ;
        rows: u32,
        cols: u32,
    }
}

impl Kernel for ScatterRows<'_> {
    fn check(&self) {
        reaches::<Self>(self.index, self.rows as usize);
        reaches::<Self>(self.x, self.rows as usize * self.cols as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        launch_by_width(&VARIANTS, rows, cols, Cost { flops: 0.0, bytes: 8.0 * (rows * cols) as f64 })
    }

    fn twin<T: Real>(&mut self) {
        let cols = self.cols as usize;
        let (index, x) = (&self.index.u32s()[..self.rows as usize], self.x.real::<T>());
        let y = self.y.real_mut::<T>();
        for (&destination, x) in index.iter().zip(x.chunks(cols)).filter(|(destination, _)| **destination != NONE) {
            y[destination as usize * cols..][..cols].copy_from_slice(x);
        }
    }
}
