//! Rows into places: new keys and values into a cache.

use super::gather_rows::NONE;
use super::variants::{by_width, launch_by_width};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width(include_str!("../../shaders/scatter_rows.wgsl"));

kernel! {
    /// `cached_k[index[i]] = k[i]` and `cached_v[index[i]] = v[i]`, for the rows whose `index[i]` is not [`NONE`]. (These are
    /// distinct, and below the rows of the cache.)
    pub struct ScatterRows in "scatter_rows" of VARIANTS {
        /// `[rows]`
        index index,
        /// `[rows, cols]`
        read k,
        /// `[rows, cols]`
        read v,
        /// `[any, cols]`
        write cached_k,
        /// `[any, cols]`
        write cached_v,
        ;
        rows: u32,
        cols: u32,
    }
}

impl Kernel for ScatterRows<'_> {
    fn check(&self) {
        reaches::<Self>(self.index, self.rows as usize);
        for x in [self.k, self.v] {
            reaches::<Self>(x, self.rows as usize * self.cols as usize);
        }
    }

    fn launch(&self, _: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        launch_by_width(&VARIANTS, rows, cols, Cost { flops: 0.0, bytes: 16.0 * (rows * cols) as f64 })
    }

    fn twin<T: Real>(&mut self) {
        let cols = self.cols as usize;
        let index = &self.index.u32s()[..self.rows as usize];
        for (x, y) in [(self.k, &mut *self.cached_k), (self.v, &mut *self.cached_v)] {
            let y = y.real_mut::<T>();
            let rows = index.iter().zip(x.real::<T>().chunks(cols));
            for (&destination, x) in rows.filter(|(destination, _)| **destination != NONE) {
                y[destination as usize * cols..][..cols].copy_from_slice(x);
            }
        }
    }
}
