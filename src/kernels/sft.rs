//! Supervised fine-tuning: the gradient of the mean negative log-prob.

use super::variants::{launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/sft.wgsl"), &[shared::GRID]);

kernel! {
    /// `dlogp = -1/N`.
    pub struct Sft in "sft" of VARIANTS {
        /// `[positions]`
        write dlogp,
        ;
        positions: u32,
        /// N: the response tokens of the whole optimizer step.
        batch_tokens: u32,
    }
}

impl Kernel for Sft<'_> {
    fn check(&self) {
        reaches::<Self>(self.dlogp, self.positions as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        launch_flat(&VARIANTS[0], self.positions as usize, Cost { flops: 0.0, bytes: 4.0 * f64::from(self.positions) })
    }

    fn twin<T: Real>(&mut self) {
        let gradient = -T::one() / T::of(self.batch_tokens.into());
        self.dlogp.real_mut::<T>()[..self.positions as usize].fill(gradient);
    }
}
