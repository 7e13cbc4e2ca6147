//! The middle of the LM head's backward pass: from a chunk of recomputed logits to their gradients, in place.

use rayon::prelude::*;

use super::variants::{launch_each, only, shared};
use crate::device::{Kernel, Real, kernel, reaches, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/log_softmax_backward.wgsl"), &[shared::GRID]);

kernel! {
    /// `dlogits = dlogp (onehot(target) - softmax(logits))` for one chunk of columns; padding columns become 0.
    pub struct LogSoftmaxBackward in "log_softmax_backward" of VARIANTS {
        /// `[tokens]`
        read targets,
        /// `[tokens]`: from the forward pass.
        read lse,
        /// `[tokens]`
        read dlogp,
        /// `[rows, stride]`: logits in, gradients out.
        write logits,
        ;
        rows: u32,
        /// Columns of the chunk.
        cols: u32,
        /// From one row of `logits` to the next; a multiple of 4.
        stride: u32,
        /// The token of the first row.
        first_row: u32,
        /// The id of the first column.
        first_col: u32,
    }
}

impl Kernel for LogSoftmaxBackward<'_> {
    fn check(&self) {
        assert!(
            self.stride.is_multiple_of(4) && self.stride >= self.cols,
            "log_softmax_backward: stride {}",
            self.stride
        );
        let tokens = self.first_row as usize + self.rows as usize;
        reaches::<Self>(self.targets, tokens);
        reaches::<Self>(self.lse, tokens);
        reaches::<Self>(self.dlogp, tokens);
        reaches::<Self>(self.logits, self.rows as usize * self.stride as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let elements = self.rows as usize * self.stride as usize;
        launch_each(
            &VARIANTS[0],
            self.rows as usize,
            Cost { flops: 4.0 * elements as f64, bytes: 8.0 * elements as f64 },
        )
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols, stride) = (self.rows as usize, self.cols as usize, self.stride as usize);
        let (first_row, first_col) = (self.first_row as usize, self.first_col as usize);
        let tokens = first_row..first_row + rows;
        let targets = &self.targets.u32s()[tokens.clone()];
        let (lse, dlogp) = (&self.lse.real::<T>()[tokens.clone()], &self.dlogp.real::<T>()[tokens]);
        let logits = &mut self.logits.real_mut::<T>()[..rows * stride];
        let rows = (targets.par_iter(), lse.par_iter(), dlogp.par_iter(), logits.par_chunks_mut(stride));
        rows.into_par_iter().for_each(|(&target, &lse, &dlogp, x)| {
            vectorized(
                #[inline(always)]
                || {
                    for x in &mut x[..cols] {
                        *x = -dlogp * (*x - lse).exp_in_loops();
                    }
                },
            );
            if let Some(x) = x[..cols].get_mut((target as usize).wrapping_sub(first_col)) {
                *x += dlogp;
            }
            x[cols..].fill(T::zero());
        });
    }
}
