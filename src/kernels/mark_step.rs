//! The mark after a step: a device that fails in silence does not write it.

use super::variants::only;
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/mark_step.wgsl"), &[]);

kernel! {
    /// `marker = step`, the last dispatch of a step.
    pub struct MarkStep in "mark_step" of VARIANTS {
        /// `[1]`, u32
        write marker,
        ;
        step: u32,
    }
}

impl Kernel for MarkStep<'_> {
    fn check(&self) {
        reaches::<Self>(self.marker, 1);
    }

    fn launch(&self, _: Traits) -> Launch {
        Launch { variant: &VARIANTS[0], constants: Vec::new(), workgroups: [1, 1, 1], cost: Cost::default() }
    }

    fn twin<T: Real>(&mut self) {
        self.marker.u32s_mut()[0] = self.step;
    }
}
