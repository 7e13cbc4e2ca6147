//! Attention, backward, first step: what the softmax's backward pass needs of each row.

use rayon::prelude::*;

use super::variants::{launch_reducing_rows, reducing_rows_of_four};
use crate::device::{Kernel, Real, kernel, reaches, sum_over, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 3] = reducing_rows_of_four(include_str!("../../shaders/attention_backward_delta.wgsl"));

kernel! {
    /// `row_statistics = (lse, o . dout)` of each row, a head of a token.
    pub struct AttentionBackwardDelta in "attention_backward_delta" of VARIANTS {
        /// `[rows, head_dim]`
        read o,
        /// `[rows, head_dim]`
        read dout,
        /// `[rows]`: from the forward pass.
        read lse,
        /// `[rows, 2]`
        write row_statistics,
        ;
        /// `tokens * heads`
        rows: u32,
        /// A multiple of 4.
        head_dim: u32,
    }
}

impl Kernel for AttentionBackwardDelta<'_> {
    fn check(&self) {
        let (rows, dim) = (self.rows as usize, self.head_dim as usize);
        assert!(dim.is_multiple_of(4), "attention_backward_delta: head_dim {dim}");
        reaches::<Self>(self.o, rows * dim);
        reaches::<Self>(self.dout, rows * dim);
        reaches::<Self>(self.lse, rows);
        reaches::<Self>(self.row_statistics, 2 * rows);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let (rows, dim) = (self.rows as usize, self.head_dim as usize);
        let cost = Cost { flops: 2.0 * (rows * dim) as f64, bytes: 8.0 * (rows * dim) as f64 };
        launch_reducing_rows(&VARIANTS, traits, rows, dim, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (rows, dim) = (self.rows as usize, self.head_dim as usize);
        let (o, dout) = (&self.o.real::<T>()[..rows * dim], self.dout.real::<T>());
        let (lse, row_statistics) = (self.lse.real::<T>(), self.row_statistics.real_mut::<T>());
        let inputs = (o.par_chunks(dim), dout.par_chunks(dim), lse.par_iter()).into_par_iter();
        inputs.zip(row_statistics.par_chunks_mut(2)).for_each(|((o, dout, &lse), row_statistics)| {
            row_statistics[0] = lse;
            [row_statistics[1]] = vectorized(
                #[inline(always)]
                || sum_over([o, dout], |[o, dout]| [o * dout]),
            );
        });
    }
}
