//! The gate of a gated MLP, forward: SiLU (SwiGLU, Shazeer 2020) or tanh-GELU (Gemma's GeGLU).

use rayon::prelude::*;

use super::variants::{TWIN_BLOCK, launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

pub(super) const GATE: &str = include_str!("../../shaders/shared/gate.wgsl");

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/gated_mlp.wgsl"), &[shared::GRID, GATE]);

/// The function of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(x)`
    Silu,
    /// `x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2`
    GeluTanh,
}

impl Activation {
    /// As the shaders count them.
    #[inline]
    pub fn index(self) -> u32 {
        match self {
            Activation::Silu => 0,
            Activation::GeluTanh => 1,
        }
    }

    #[inline]
    fn of_index(index: u32) -> Self {
        if index == Activation::GeluTanh.index() { Activation::GeluTanh } else { Activation::Silu }
    }

    /// `z` and `z'` of `f(x) = x sigmoid(z(x))`.
    #[inline]
    fn z<T: Real>(self, x: T) -> (T, T) {
        match self {
            Activation::Silu => (x, T::one()),
            Activation::GeluTanh => {
                let scale = T::of(2.0 * (2.0 / std::f64::consts::PI).sqrt());
                let cubic = T::of(0.044715);
                (scale * (x + cubic * x * x * x), scale * (T::one() + T::of(3.0) * cubic * x * x))
            }
        }
    }
}

/// `1 / (1 + exp(-z))` and `1 / (1 + exp(z))`, by `exp(-|z|)`.
#[inline]
fn sigmoids<T: Real>(z: T) -> (T, T) {
    let e = (-z.abs()).exp_in_loops();
    let (numerator, other) = if z >= T::zero() { (T::one(), e) } else { (e, T::one()) };
    (numerator / (T::one() + e), other / (T::one() + e))
}

/// `f(x)` and `f'(x)` of the activation with this index.
#[inline]
pub(super) fn gate<T: Real>(x: T, activation: u32) -> (T, T) {
    let (z, dz) = Activation::of_index(activation).z(x);
    let (s, s_of_minus_z) = sigmoids(z);
    (x * s, s + x * s * s_of_minus_z * dz)
}

kernel! {
    /// `act = f(gate) up`, `f` SiLU or tanh-GELU.
    pub struct GatedMlp in "gated_mlp" of VARIANTS {
        /// `[count]`
        read gate,
        /// `[count]`
        read up,
        /// `[count]`
        write act,
        ;
        count: u32,
        /// [`Activation::index`]
        activation: u32,
    }
}

impl Kernel for GatedMlp<'_> {
    fn check(&self) {
        for tensor in [self.gate, self.up, self.act] {
            reaches::<Self>(tensor, self.count as usize);
        }
    }

    fn launch(&self, _: Traits) -> Launch {
        launch_flat(
            &VARIANTS[0],
            (self.count as usize).div_ceil(4),
            Cost { flops: 8.0 * f64::from(self.count), bytes: 12.0 * f64::from(self.count) },
        )
    }

    fn twin<T: Real>(&mut self) {
        let count = self.count as usize;
        let activation = self.activation;
        let (x, up) = (&self.gate.real::<T>()[..count], self.up.real::<T>());
        let act = self.act.real_mut::<T>();
        let blocks =
            (x.par_chunks(TWIN_BLOCK), up.par_chunks(TWIN_BLOCK), act.par_chunks_mut(TWIN_BLOCK)).into_par_iter();
        blocks.for_each(|(x, up, act)| {
            vectorized(
                #[inline(always)]
                || {
                    let (up, act) = (&up[..x.len()], &mut act[..x.len()]);
                    for i in 0..x.len() {
                        act[i] = gate(x[i], activation).0 * up[i];
                    }
                },
            );
        });
    }
}
