//! The gradient norm's work: sums of squares, block by block.

use rayon::prelude::*;

use super::variants::{launch_reducing_rows, reducing_rows_of_four};
use crate::device::{Device, Kernel, Real, Tensor, kernel, reaches, sum_over, vectorized, word};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 3] = reducing_rows_of_four(include_str!("../../shaders/sum_squares.wgsl"));

/// Values that one partial sum covers; `BLOCK` in the shader.
pub const BLOCK: usize = 16384;

/// Tensors that one dispatch takes.
const AT_ONCE: usize = 7;

kernel! {
    /// `partials[first_partial + b] = sum of x^2` over block `b` of [`BLOCK`] values, counted over the blocks of up to seven
    /// tensors, of which each begins with a block of its own.
    pub struct SumSquares in "sum_squares" of VARIANTS {
        /// `[count0]`
        read x0,
        /// `[count1]`
        read x1,
        /// `[count2]`
        read x2,
        /// `[count3]`
        read x3,
        /// `[count4]`
        read x4,
        /// `[count5]`
        read x5,
        /// `[count6]`
        read x6,
        /// `[any]`
        write partials,
        ;
        count0: u32,
        count1: u32,
        count2: u32,
        count3: u32,
        count4: u32,
        count5: u32,
        count6: u32,
        /// Where the blocks start in `partials`.
        first_partial: u32,
    }
}

impl SumSquares<'_> {
    /// Writes the sums of the tensors' blocks to `partials`, tensor after tensor.
    pub fn run(device: &Device, tensors: &[&Tensor], partials: &mut Tensor) {
        let mut first_partial = 0;
        for tensors in tensors.chunks(AT_ONCE) {
            // What is not there is bound as the first once more, and not read.
            let x = |i: usize| tensors.get(i).copied().unwrap_or(tensors[0]);
            let count = |i: usize| tensors.get(i).map_or(0, |x| word(x.len()));
            device.run(SumSquares {
                x0: x(0),
                x1: x(1),
                x2: x(2),
                x3: x(3),
                x4: x(4),
                x5: x(5),
                x6: x(6),
                partials: &mut *partials,
                count0: count(0),
                count1: count(1),
                count2: count(2),
                count3: count(3),
                count4: count(4),
                count5: count(5),
                count6: count(6),
                first_partial,
            });
            first_partial += tensors.iter().map(|x| word(x.len().div_ceil(BLOCK))).sum::<u32>();
        }
    }

    /// The tensors, and how much of each is summed.
    fn tensors(&self) -> [(&Tensor, usize); AT_ONCE] {
        let tensors = [self.x0, self.x1, self.x2, self.x3, self.x4, self.x5, self.x6];
        let counts = [self.count0, self.count1, self.count2, self.count3, self.count4, self.count5, self.count6];
        std::array::from_fn(|i| (tensors[i], counts[i] as usize))
    }

    fn blocks(&self) -> usize {
        self.tensors().iter().map(|(_, count)| count.div_ceil(BLOCK)).sum()
    }
}

impl Kernel for SumSquares<'_> {
    fn check(&self) {
        for (x, count) in self.tensors() {
            reaches::<Self>(x, count);
        }
        reaches::<Self>(self.partials, self.first_partial as usize + self.blocks());
    }

    fn launch(&self, traits: Traits) -> Launch {
        let count: usize = self.tensors().iter().map(|(_, count)| count).sum();
        let cost = Cost { flops: 2.0 * count as f64, bytes: 4.0 * count as f64 };
        launch_reducing_rows(&VARIANTS, traits, self.blocks(), BLOCK, cost)
    }

    fn twin<T: Real>(&mut self) {
        let sums = |(x, count): (&Tensor, usize)| -> Vec<T> {
            let blocks = x.real::<T>()[..count].par_chunks(BLOCK);
            let sum = |x| {
                vectorized(
                    #[inline(always)]
                    || sum_over([x], |[x]| [x * x]),
                )
            };
            blocks.flat_map_iter(sum).collect()
        };
        let sums: Vec<T> = self.tensors().into_iter().flat_map(sums).collect();
        self.partials.real_mut::<T>()[self.first_partial as usize..][..sums.len()].copy_from_slice(&sums);
    }
}
