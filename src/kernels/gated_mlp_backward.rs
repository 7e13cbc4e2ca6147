//! The gate of a gated MLP, backward.

use rayon::prelude::*;

use super::gated_mlp::{GATE, gate};
use super::variants::{TWIN_BLOCK, launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/gated_mlp_backward.wgsl"), &[shared::GRID, GATE]);

kernel! {
    /// `dgate = dact up f'(gate)`, `dup = dact f(gate)`, and `act = f(gate) up` once more. (The forward pass did not keep
    /// it.)
    pub struct GatedMlpBackward in "gated_mlp_backward" of VARIANTS {
        /// `[count]`
        read gate,
        /// `[count]`
        read up,
        /// `[count]`
        read dact,
        /// `[count]`
        write dgate,
        /// `[count]`
        write dup,
        /// `[count]`
        write act,
        ;
        count: u32,
        /// [`Activation::index`](super::Activation::index)
        activation: u32,
    }
}

impl Kernel for GatedMlpBackward<'_> {
    fn check(&self) {
        for tensor in [self.gate, self.up, self.dact, self.dgate, self.dup, self.act] {
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
        let count = self.count as usize;
        let activation = self.activation;
        let (x, up, dact) = (&self.gate.real::<T>()[..count], self.up.real::<T>(), self.dact.real::<T>());
        let (dgate, dup, act) = (self.dgate.real_mut::<T>(), self.dup.real_mut::<T>(), self.act.real_mut::<T>());
        let inputs = (x.par_chunks(TWIN_BLOCK), up.par_chunks(TWIN_BLOCK), dact.par_chunks(TWIN_BLOCK)).into_par_iter();
        let outputs =
            (dgate.par_chunks_mut(TWIN_BLOCK), dup.par_chunks_mut(TWIN_BLOCK), act.par_chunks_mut(TWIN_BLOCK));
        inputs.zip(outputs.into_par_iter()).for_each(|((x, up, dact), (dgate, dup, act))| {
            vectorized(
                #[inline(always)]
                || {
                    let (up, dact) = (&up[..x.len()], &dact[..x.len()]);
                    let (dgate, dup, act) = (&mut dgate[..x.len()], &mut dup[..x.len()], &mut act[..x.len()]);
                    for i in 0..x.len() {
                        let (f, slope) = gate(x[i], activation);
                        dgate[i] = dact[i] * up[i] * slope;
                        dup[i] = dact[i] * f;
                        act[i] = f * up[i];
                    }
                },
            );
        });
    }
}
