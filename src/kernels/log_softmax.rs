//! The middle of the LM head's forward pass: log-softmax over the vocabulary, a chunk of columns at a time.

use rayon::prelude::*;

use super::variants::{launch_reducing_rows, reducing_rows_of_four};
use crate::device::{Kernel, Real, kernel, largest, reaches, sum_over, vectorized};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 3] = reducing_rows_of_four(include_str!("../../shaders/log_softmax.wgsl"));

kernel! {
    /// `logp = x[target] - lse`, `lse = log sum exp(x)`, `entropy = -sum p log p` over the vocabulary, a chunk of columns a
    /// call. The running statistics carry from chunk to chunk; the results are right after the last. The chunk with `first_col` 0 comes first.
    pub struct LogSoftmax in "log_softmax" of VARIANTS {
        /// `[rows, stride]`
        read logits,
        /// `[tokens]`: the id whose log-prob is wanted.
        read targets,
        /// `[tokens, 4]`: largest logit `m`, `sum exp(x - m)`, `sum (x - m) exp(x - m)`, the target's logit.
        write running,
        /// `[tokens]`: log-prob of the target.
        write logp,
        /// `[tokens]`: entropy of the distribution, in nats.
        write entropy,
        /// `[tokens]`: log of the sum of the exponentials, which the backward pass needs.
        write lse,
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

impl Kernel for LogSoftmax<'_> {
    fn check(&self) {
        assert!(self.stride.is_multiple_of(4) && self.stride >= self.cols, "log_softmax: stride {}", self.stride);
        let tokens = self.first_row as usize + self.rows as usize;
        reaches::<Self>(self.logits, self.rows as usize * self.stride as usize);
        reaches::<Self>(self.targets, tokens);
        reaches::<Self>(self.running, 4 * tokens);
        for tensor in [&self.logp, &self.entropy, &self.lse] {
            reaches::<Self>(tensor, tokens);
        }
    }

    fn launch(&self, traits: Traits) -> Launch {
        let elements = f64::from(self.rows) * f64::from(self.cols);
        let cost = Cost { flops: 8.0 * elements, bytes: 4.0 * elements };
        launch_reducing_rows(&VARIANTS, traits, self.rows as usize, self.stride as usize, cost)
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols, stride) = (self.rows as usize, self.cols as usize, self.stride as usize);
        let (first_row, first_col) = (self.first_row as usize, self.first_col as usize);
        let tokens = first_row..first_row + rows;
        let logits = &self.logits.real::<T>()[..rows * stride];
        let targets = &self.targets.u32s()[tokens.clone()];
        let running = &mut self.running.real_mut::<T>()[4 * tokens.start..4 * tokens.end];
        let logp = &mut self.logp.real_mut::<T>()[tokens.clone()];
        let entropy = &mut self.entropy.real_mut::<T>()[tokens.clone()];
        let lse = &mut self.lse.real_mut::<T>()[tokens];
        let inputs = (logits.par_chunks(stride), targets.par_iter());
        let outputs = (running.par_chunks_mut(4), logp.par_iter_mut(), entropy.par_iter_mut(), lse.par_iter_mut());
        (inputs.into_par_iter(), outputs.into_par_iter()).into_par_iter().for_each(|((x, &target), outputs)| {
            let (running, logp, entropy, lse) = outputs;
            let x = &x[..cols];
            let before =
                if first_col == 0 { [x[0], T::zero(), T::zero(), T::zero()] } else { [0, 1, 2, 3].map(|i| running[i]) };
            let (m, [chunk_s, chunk_u]) = vectorized(
                #[inline(always)]
                || {
                    let m = before[0].max(largest(x));
                    let sums = sum_over([x], |[x]| {
                        let e = (x - m).exp_in_loops();
                        [e, (x - m) * e]
                    });
                    (m, sums)
                },
            );
            let d = before[0] - m;
            let s = d.exp() * before[1] + chunk_s;
            let u = d.exp() * (before[2] + d * before[1]) + chunk_u;
            let column = (target as usize).wrapping_sub(first_col);
            let target_logit = x.get(column).copied().unwrap_or(before[3]);
            running.copy_from_slice(&[m, s, u, target_logit]);
            *logp = target_logit - m - s.ln();
            *entropy = s.ln() - u / s;
            *lse = m + s.ln();
        });
    }
}
