//! The gradient norm's work: sums of squares, block by block.

use rayon::prelude::*;

use super::variants::{launch_reducing_rows, reducing_rows_of_four};
use crate::device::{Kernel, Real, kernel, reaches, sum_terms};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 3] = reducing_rows_of_four(include_str!("../../shaders/sum_squares.wgsl"));

/// Values that one partial sum covers; `BLOCK` in the shader.
pub const BLOCK: usize = 16384;

kernel! {
    /// `partials[first_partial + b] = sum of x^2` over block `b` of [`BLOCK`] values.
    pub struct SumSquares in "sum_squares" of VARIANTS {
        /// `[count]`
        read x,
        /// `[any]`
        write partials,
        ;
        count: u32,
        /// Where this tensor's blocks start in `partials`.
        first_partial: u32,
    }
}

impl Kernel for SumSquares<'_> {
    fn check(&self) {
        let count = self.count as usize;
        reaches::<Self>(self.x, count);
        reaches::<Self>(self.partials, self.first_partial as usize + count.div_ceil(BLOCK));
    }

    fn launch(&self, traits: Traits) -> Launch {
        let cost = Cost { flops: 2.0 * f64::from(self.count), bytes: 4.0 * f64::from(self.count) };
        launch_reducing_rows(&VARIANTS, traits, (self.count as usize).div_ceil(BLOCK), BLOCK, cost)
    }

    fn twin<T: Real>(&mut self) {
        let x = &self.x.real::<T>()[..self.count as usize];
        let partials = &mut self.partials.real_mut::<T>()[self.first_partial as usize..];
        x.par_chunks(BLOCK).zip(partials).for_each(|(x, partial)| [*partial] = sum_terms(x.len(), |i| [x[i] * x[i]]));
    }
}
