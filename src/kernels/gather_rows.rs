//! Rows by index: the response positions out of all tokens, and back.
//!
//! The backward pass of a gather whose indices are distinct is a gather by the inverse index, with zeros where a row
//! was not taken: no scatter, no atomics, one kernel.

use rayon::prelude::*;

use super::variants::{by_width, launch_by_width};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width(include_str!("../../shaders/gather_rows.wgsl"));

/// The index of no row: gives zeros.
pub const NONE: u32 = u32::MAX;

kernel! {
    /// `y[i] = x[index[i]]`, zeros where `index[i]` is [`NONE`].
    pub struct GatherRows in "gather_rows" of VARIANTS {
        /// `[rows]`
        index index,
        /// `[any, cols]`
        read x,
        /// `[rows, cols]`
        write y,
        ;
        rows: u32,
        cols: u32,
    }
}

impl Kernel for GatherRows<'_> {
    fn check(&self) {
        reaches::<Self>(self.index, self.rows as usize);
        reaches::<Self>(self.y, self.rows as usize * self.cols as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        launch_by_width(&VARIANTS, rows, cols, Cost { flops: 0.0, bytes: 8.0 * (rows * cols) as f64 })
    }

    fn twin<T: Real>(&mut self) {
        let cols = self.cols as usize;
        let (index, x) = (&self.index.u32s()[..self.rows as usize], self.x.real::<T>());
        let y = self.y.real_mut::<T>();
        index.par_iter().zip(y.par_chunks_mut(cols)).for_each(|(&source, y)| match source {
            NONE => y.fill(T::zero()),
            source => y.copy_from_slice(&x[source as usize * cols..][..cols]),
        });
    }
}
