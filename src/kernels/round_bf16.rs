//! Master weights in f32 to working weights in bf16.

use rayon::prelude::*;

use super::variants::{TWIN_BLOCK, launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches, to_bf16};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/round_bf16.wgsl"), &[shared::GRID]);

kernel! {
    /// `y = x` rounded to bf16, to nearest, ties to even. Values are finite.
    pub struct RoundBf16 in "round_bf16" of VARIANTS {
        /// `[count]`
        read x,
        /// `[count]`, bf16
        write y,
        ;
        count: u32,
    }
}

impl Kernel for RoundBf16<'_> {
    fn check(&self) {
        reaches::<Self>(self.x, self.count as usize);
        reaches::<Self>(self.y, self.count as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        launch_flat(
            &VARIANTS[0],
            (self.count as usize).div_ceil(4),
            Cost { flops: 0.0, bytes: 6.0 * f64::from(self.count) },
        )
    }

    fn twin<T: Real>(&mut self) {
        let x = &self.x.real::<T>()[..self.count as usize];
        self.y.bf16s_mut().par_chunks_mut(TWIN_BLOCK).zip(x.par_chunks(TWIN_BLOCK)).for_each(|(y, x)| {
            for i in 0..x.len() {
                y[i] = to_bf16(x[i].wide());
            }
        });
    }
}
