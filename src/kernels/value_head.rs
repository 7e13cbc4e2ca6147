//! The value network's linear head, forward: V(s) from the hidden state that predicts the action.

use rayon::prelude::*;

use super::variants::{launch_reducing_rows, reducing_rows};
use crate::device::{Kernel, Real, kernel, reaches, sum_over, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 6] = reducing_rows(include_str!("../../shaders/value_head.wgsl"));

kernel! {
    /// `value = h . weight + bias`, row by row.
    pub struct ValueHead in "value_head" of VARIANTS {
        /// `[rows, cols]`
        read h,
        /// `[cols]`
        read weight,
        /// `[1]`
        read bias,
        /// `[rows]`
        write value,
        ;
        rows: u32,
        cols: u32,
    }
}

impl Kernel for ValueHead<'_> {
    fn check(&self) {
        reaches::<Self>(self.h, self.rows as usize * self.cols as usize);
        reaches::<Self>(self.weight, self.cols as usize);
        reaches::<Self>(self.bias, 1);
        reaches::<Self>(self.value, self.rows as usize);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let cost = Cost { flops: 2.0 * (rows * cols) as f64, bytes: 4.0 * (rows * cols) as f64 };
        launch_reducing_rows(&VARIANTS, traits, rows, cols, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let (h, weight) = (&self.h.real::<T>()[..rows * cols], &self.weight.real::<T>()[..cols]);
        let (bias, value) = (self.bias.real::<T>()[0], self.value.real_mut::<T>());
        h.par_chunks(cols).zip(value).for_each(|(h, value)| {
            let [product] = vectorized(
                #[inline(always)]
                || sum_over([h, weight], |[h, weight]| [h * weight]),
            );
            *value = product + bias;
        });
    }
}
