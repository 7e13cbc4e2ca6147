//! Rows of one matrix to a place in another.

use rayon::prelude::*;

use super::variants::{TWIN_BLOCK, launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/copy_rows.wgsl"), &[shared::GRID]);

kernel! {
    /// `y[first_y + i] = x[first_x + i]`, of rows of whole groups of four values.
    pub struct CopyRows in "copy_rows" of VARIANTS {
        /// `[any, cols]`
        read x,
        /// `[any, cols]`
        write y,
        ;
        rows: u32,
        cols: u32,
        first_x: u32,
        first_y: u32,
    }
}

impl Kernel for CopyRows<'_> {
    fn check(&self) {
        assert!(self.cols.is_multiple_of(4), "rows are copied by whole groups of four columns");
        let end = |first: u32| (first as usize + self.rows as usize) * self.cols as usize;
        reaches::<Self>(self.x, end(self.first_x));
        reaches::<Self>(self.y, end(self.first_y));
    }

    fn launch(&self, _: Traits) -> Launch {
        let elements = self.rows as usize * self.cols as usize;
        launch_flat(&VARIANTS[0], elements / 4, Cost { flops: 0.0, bytes: 8.0 * elements as f64 })
    }

    fn twin<T: Real>(&mut self) {
        let elements = self.rows as usize * self.cols as usize;
        let first = |row: u32| row as usize * self.cols as usize;
        let x = &self.x.real::<T>()[first(self.first_x)..][..elements];
        let y = &mut self.y.real_mut::<T>()[first(self.first_y)..][..elements];
        y.par_chunks_mut(TWIN_BLOCK).zip(x.par_chunks(TWIN_BLOCK)).for_each(|(y, x)| y.copy_from_slice(x));
    }
}
