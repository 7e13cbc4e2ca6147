//! The last step of attention over a cache whose keys are taken in parts.

use rayon::prelude::*;

use super::variants::{launch_flat, only, shared::GRID};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/attention_combine.wgsl"), &[GRID]);

kernel! {
    /// `o[r, :] = sum over the parts p of w[p, r] outputs[p, r, :]`, with `w[:, r] = softmax(lse[:, r])`: each part of a row's keys
    /// has been computed by itself, and `lse` is the logarithm of its sum of exponentials.
    pub struct AttentionCombine in "attention_combine" of VARIANTS {
        /// `[parts, rows, cols]`
        read outputs,
        /// `[parts, rows]`
        read lse,
        /// `[rows, cols]`
        write o,
        ;
        parts: u32,
        rows: u32,
        /// Values a row: a multiple of 4.
        cols: u32,
    }
}

impl Kernel for AttentionCombine<'_> {
    fn check(&self) {
        let [parts, rows, cols] = [self.parts, self.rows, self.cols].map(|size| size as usize);
        assert!(parts > 0 && cols.is_multiple_of(4), "attention_combine: {parts} parts of {cols} columns");
        reaches::<Self>(self.outputs, parts * rows * cols);
        reaches::<Self>(self.lse, parts * rows);
        reaches::<Self>(self.o, rows * cols);
    }

    fn launch(&self, _: Traits) -> Launch {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let elements = f64::from(self.parts) * (rows * cols) as f64;
        launch_flat(&VARIANTS[0], rows * cols / 4, Cost { flops: 3.0 * elements, bytes: 4.0 * elements })
    }

    fn twin<T: Real>(&mut self) {
        let (parts, rows, cols) = (self.parts as usize, self.rows as usize, self.cols as usize);
        let (outputs, lse) = (self.outputs.real::<T>(), self.lse.real::<T>());
        let o = &mut self.o.real_mut::<T>()[..rows * cols];
        o.par_chunks_mut(cols).enumerate().for_each(|(row, o)| {
            let of_row = || (0..parts).map(|part| lse[part * rows + row]);
            let largest = of_row().fold(lse[row], T::max);
            let weights: Vec<T> = of_row().map(|lse| (lse - largest).exp()).collect();
            let sum = weights.iter().fold(T::zero(), |sum, &weight| sum + weight);
            o.fill(T::zero());
            for (part, &weight) in weights.iter().enumerate() {
                let values = &outputs[(part * rows + row) * cols..][..cols];
                o.iter_mut().zip(values).for_each(|(o, &value)| *o += weight / sum * value);
            }
        });
    }
}
