//! The gate of a gated MLP, backward.

use rayon::prelude::*;

use super::gated_mlp::{GATE, gate};
use super::variants::{TWIN_BLOCK, launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/gated_mlp_backward.wgsl"), &[shared::GRID, GATE]);

kernel! {
    /// `dgate = dact up f'(gate)`, `dup = dact f(gate)`, and `act = f(gate) up` once more (the forward pass did not keep it): each in
    /// the place of its like.
    pub struct GatedMlpBackward in "gated_mlp_backward" of VARIANTS {
        /// `[count]`; then dgate.
        write gate,
        /// `[count]`; then dup.
        write up,
        /// `[count]`; then act.
        write dact,
        ;
        count: u32,
        /// [`Activation::index`](super::Activation::index)
        activation: u32,
    }
}

impl Kernel for GatedMlpBackward<'_> {
    fn check(&self) {
        for tensor in [&*self.gate, self.up, self.dact] {
            reaches::<Self>(tensor, self.count as usize);
        }
    }

    fn launch(&self, _: Traits) -> Launch {
        launch_flat(
            &VARIANTS[0],
            (self.count as usize).div_ceil(4),
            Cost { flops: 16.0 * f64::from(self.count), bytes: 24.0 * f64::from(self.count) },
        )
    }

    fn twin<T: Real>(&mut self) {
        let (count, activation) = (self.count as usize, self.activation);
        let [gates, ups, dacts] = [&mut *self.gate, self.up, self.dact]
            .map(|tensor| tensor.real_mut::<T>()[..count].par_chunks_mut(TWIN_BLOCK));
        (gates, ups, dacts).into_par_iter().for_each(|(gates, ups, dacts)| {
            vectorized(
                #[inline(always)]
                || {
                    let (ups, dacts) = (&mut ups[..gates.len()], &mut dacts[..gates.len()]);
                    for i in 0..gates.len() {
                        let (up, dact) = (ups[i], dacts[i]);
                        let (f, slope) = gate(gates[i], activation);
                        gates[i] = dact * up * slope;
                        ups[i] = dact * f;
                        dacts[i] = f * up;
                    }
                },
            );
        });
    }
}
