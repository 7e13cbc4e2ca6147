//! Sums over each sequence of a packed batch: what every method reports of its tokens.

use super::variants::{launch_reducing_rows, reducing_rows_of_four};
use crate::device::{Kernel, Real, kernel, reaches, sum_over};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 3] = reducing_rows_of_four(include_str!("../../shaders/sequence_sum.wgsl"));

kernel! {
    /// `sums[first_sequence + b] = sum of x[t]` over the positions of sequence `b`.
    pub struct SequenceSum in "sequence_sum" of VARIANTS {
        /// `[sequences + 1]`: where each sequence starts on the axis of `x`.
        index starts,
        /// `[positions]`
        read x,
        /// `[any]`
        write sums,
        ;
        sequences: u32,
        /// Where this micro-batch's sequences start in `sums`.
        first_sequence: u32,
    }
}

impl Kernel for SequenceSum<'_> {
    fn check(&self) {
        reaches::<Self>(self.starts, self.sequences as usize + 1);
        reaches::<Self>(self.sums, self.first_sequence as usize + self.sequences as usize);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let cost = Cost { flops: self.x.len() as f64, bytes: 4.0 * self.x.len() as f64 };
        launch_reducing_rows(&VARIANTS, traits, self.sequences as usize, 4, cost)
    }

    fn twin<T: Real>(&mut self) {
        let first = self.first_sequence as usize;
        let (starts, x) = (&self.starts.u32s()[..=self.sequences as usize], self.x.real::<T>());
        let sums = &mut self.sums.real_mut::<T>()[first..];
        for (range, sum) in starts.windows(2).zip(sums) {
            let x = &x[range[0] as usize..range[1] as usize];
            [*sum] = sum_over([x], |x| x);
        }
    }
}
