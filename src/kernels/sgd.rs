//! Plain gradient descent, without momentum.

use rayon::prelude::*;

use super::variants::{TWIN_BLOCK, launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/sgd.wgsl"), &[shared::GRID]);

kernel! {
    /// `weight -= step_size gradient`, then `gradient = 0`.
    pub struct Sgd in "sgd" of VARIANTS {
        /// `[count]`
        write gradient,
        /// `[count]`
        write weight,
        ;
        count: u32,
        /// The learning rate times the clipping factor.
        step_size: f32,
    }
}

impl Kernel for Sgd<'_> {
    fn check(&self) {
        reaches::<Self>(self.gradient, self.count as usize);
        reaches::<Self>(self.weight, self.count as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        launch_flat(
            &VARIANTS[0],
            (self.count as usize).div_ceil(4),
            Cost { flops: 2.0 * f64::from(self.count), bytes: 16.0 * f64::from(self.count) },
        )
    }

    fn twin<T: Real>(&mut self) {
        let step_size = T::of(self.step_size.into());
        let gradient = &mut self.gradient.real_mut::<T>()[..self.count as usize];
        let weight = self.weight.real_mut::<T>();
        weight.par_chunks_mut(TWIN_BLOCK).zip(gradient.par_chunks_mut(TWIN_BLOCK)).for_each(|(weight, gradient)| {
            for i in 0..gradient.len() {
                weight[i] -= step_size * gradient[i];
                gradient[i] = T::zero();
            }
        });
    }
}
