//! A factor on every value, in place.

use rayon::prelude::*;

use super::variants::{launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/scale.wgsl"), &[shared::GRID]);

kernel! {
    /// `x *= factor`.
    pub struct Scale in "scale" of VARIANTS {
        /// `[count]`
        write x,
        ;
        count: u32,
        factor: f32,
    }
}

impl Kernel for Scale<'_> {
    fn check(&self) {
        reaches::<Self>(self.x, self.count as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        launch_flat(
            &VARIANTS[0],
            (self.count as usize).div_ceil(4),
            Cost { flops: f64::from(self.count), bytes: 8.0 * f64::from(self.count) },
        )
    }

    fn twin<T: Real>(&mut self) {
        let factor = T::of(self.factor.into());
        self.x.real_mut::<T>()[..self.count as usize].par_iter_mut().for_each(|x| *x *= factor);
    }
}
