//! What was rounded to bf16, as f32 again.

use rayon::prelude::*;

use super::variants::{TWIN_BLOCK, launch_flat, only, shared};
use crate::device::{Kernel, Real, from_bf16, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/widen_bf16.wgsl"), &[shared::GRID]);

kernel! {
    /// `y = x`, of bf16.
    pub struct WidenBf16 in "widen_bf16" of VARIANTS {
        /// `[count]`, bf16
        read x,
        /// `[count]`
        write y,
        ;
        count: u32,
    }
}

impl Kernel for WidenBf16<'_> {
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
        let y = &mut self.y.real_mut::<T>()[..self.count as usize];
        y.par_chunks_mut(TWIN_BLOCK).zip(self.x.bf16s().par_chunks(TWIN_BLOCK)).for_each(|(y, x)| {
            for i in 0..y.len() {
                y[i] = T::of(from_bf16(x[i]));
            }
        });
    }
}
