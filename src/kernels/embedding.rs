//! Token embedding, forward, over one row shard of the table.

use rayon::prelude::*;

use super::variants::{by_weight, launch_flat};
use crate::device::{DType, Kernel, Real, from_bf16, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_weight(include_str!("../../shaders/embedding.wgsl"));

kernel! {
    /// `y[t] = scale * weight[ids[t] - first_row]` for the tokens whose id lies in the shard.
    pub struct Embedding in "embedding" of VARIANTS {
        /// `[tokens]`
        index ids,
        /// `[shard_rows, cols]`, f32 or bf16; `cols` is a multiple of 4.
        read weight,
        /// `[tokens, cols]`
        write y,
        ;
        tokens: u32,
        cols: u32,
        /// The id of the shard's first row.
        first_row: u32,
        shard_rows: u32,
        /// `sqrt(hidden)` for Gemma, else 1.
        scale: f32,
    }
}

impl Kernel for Embedding<'_> {
    fn check(&self) {
        assert!(self.cols.is_multiple_of(4), "embedding: {} columns are not a multiple of 4", self.cols);
        reaches::<Self>(self.ids, self.tokens as usize);
        reaches::<Self>(self.weight, self.shard_rows as usize * self.cols as usize);
        reaches::<Self>(self.y, self.tokens as usize * self.cols as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let elements = self.tokens as usize * self.cols as usize;
        let read = self.weight.dtype().bytes(elements, self.weight.device().precision());
        let bytes = (read + 4 * elements) as f64;
        launch_flat(
            &VARIANTS[usize::from(self.weight.dtype() == DType::Bf16)],
            elements / 4,
            Cost { flops: elements as f64, bytes },
        )
    }

    fn twin<T: Real>(&mut self) {
        let cols = self.cols as usize;
        let shard = self.first_row as usize..self.first_row as usize + self.shard_rows as usize;
        let scale = T::of(self.scale.into());
        let ids = &self.ids.u32s()[..self.tokens as usize];
        let weight = self.weight;
        let y = self.y.real_mut::<T>();
        ids.par_iter().zip(y.par_chunks_mut(cols)).for_each(|(&id, y)| {
            if shard.contains(&(id as usize)) {
                let first = (id as usize - shard.start) * cols;
                if weight.dtype() == DType::Bf16 {
                    let row = &weight.bf16s()[first..first + cols];
                    for c in 0..cols {
                        y[c] = scale * T::of(from_bf16(row[c]));
                    }
                } else {
                    let row = &weight.real::<T>()[first..first + cols];
                    y.iter_mut().zip(row).for_each(|(y, &w)| *y = scale * w);
                }
            }
        });
    }
}
