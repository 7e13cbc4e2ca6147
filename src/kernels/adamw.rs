//! AdamW (Loshchilov and Hutter 2019), in the order of operations of `torch.optim.AdamW`.

use rayon::prelude::*;

use super::variants::{TWIN_BLOCK, launch_flat, only, shared};
use crate::device::{Kernel, Real, Tensor, kernel, reaches, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/adamw.wgsl"), &[shared::GRID]);

kernel! {
    /// One step, with `g = gradient_scale gradient`: `m` and `v` are the running means of `g` and `g^2`, and
    /// `weight = weight (1 - decay) - step_size m / (sqrt(v) inverse_sqrt_correction2 + epsilon)`; then `gradient = 0`. Of two
    /// weights at once, of which one may be nothing.
    pub struct AdamW in "adamw" of VARIANTS {
        /// `[count]`
        write gradient,
        /// `[count]`
        write weight,
        /// `[count]`: first moment.
        write m,
        /// `[count]`: second moment.
        write v,
        /// `[count2]`
        write gradient2,
        /// `[count2]`
        write weight2,
        /// `[count2]`
        write m2,
        /// `[count2]`
        write v2,
        ;
        count: u32,
        count2: u32,
        /// The clipping factor.
        gradient_scale: f32,
        /// `learning_rate / (1 - beta1^step)`
        step_size: f32,
        /// `learning_rate * weight_decay`
        decay: f32,
        beta1: f32,
        beta2: f32,
        /// `1 / sqrt(1 - beta2^step)`
        inverse_sqrt_correction2: f32,
        epsilon: f32,
    }
}

impl Kernel for AdamW<'_> {
    fn check(&self) {
        for tensor in [&*self.gradient, self.weight, self.m, self.v] {
            reaches::<Self>(tensor, self.count as usize);
        }
        for tensor in [&*self.gradient2, self.weight2, self.m2, self.v2] {
            reaches::<Self>(tensor, self.count2 as usize);
        }
    }

    fn launch(&self, _: Traits) -> Launch {
        let quads: usize = [self.count, self.count2].map(|count| (count as usize).div_ceil(4)).iter().sum();
        let values = f64::from(self.count) + f64::from(self.count2);
        launch_flat(&VARIANTS[0], quads, Cost { flops: 12.0 * values, bytes: 32.0 * values })
    }

    fn twin<T: Real>(&mut self) {
        let of = |parameter: f32| T::of(parameter.into());
        let (scale, step_size, keep) = (of(self.gradient_scale), of(self.step_size), T::one() - of(self.decay));
        let (beta1, beta2, epsilon) = (of(self.beta1), of(self.beta2), of(self.epsilon));
        let inverse_sqrt_correction2 = of(self.inverse_sqrt_correction2);
        let step = |count: u32, tensors: [&mut Tensor; 4]| {
            let [gradient, weight, m, v] =
                tensors.map(|tensor| tensor.real_mut::<T>()[..count as usize].par_chunks_mut(TWIN_BLOCK));
            (gradient, weight, m, v).into_par_iter().for_each(|(gradient, weight, m, v)| {
                let count = gradient.len();
                let (weight, m, v) = (&mut weight[..count], &mut m[..count], &mut v[..count]);
                vectorized(
                    #[inline(always)]
                    || {
                        for i in 0..count {
                            let g = scale * gradient[i];
                            m[i] += (T::one() - beta1) * (g - m[i]);
                            v[i] = beta2 * v[i] + (T::one() - beta2) * g * g;
                            let direction = m[i] / (v[i].sqrt() * inverse_sqrt_correction2 + epsilon);
                            weight[i] = weight[i] * keep - step_size * direction;
                            gradient[i] = T::zero();
                        }
                    },
                );
            });
        };
        step(self.count, [self.gradient, self.weight, self.m, self.v]);
        step(self.count2, [self.gradient2, self.weight2, self.m2, self.v2]);
    }
}
