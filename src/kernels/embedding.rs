//! Token embedding, forward, over one row shard of the table.

use rayon::prelude::*;

use super::variants::{launch_flat, shared};
use crate::device::{DType, Kernel, Real, from_bf16, kernel, reaches};
use crate::gpu::{Cost, Launch, Needs, Traits, Variant};

const SOURCE: &str = include_str!("../../shaders/embedding.wgsl");
static VARIANTS: [Variant; 3] = {
    use shared::{GRID, WEIGHT_BF16, WEIGHT_F32, WEIGHT_Q8, WEIGHT_QUADS};
    [
        Variant { name: "f32", source: SOURCE, includes: &[GRID, WEIGHT_F32, WEIGHT_QUADS], needs: Needs::Nothing },
        Variant { name: "bf16", source: SOURCE, includes: &[GRID, WEIGHT_BF16, WEIGHT_QUADS], needs: Needs::Nothing },
        Variant { name: "q8", source: SOURCE, includes: &[GRID, WEIGHT_Q8], needs: Needs::Nothing },
    ]
};

kernel! {
    /// `y[t] = scale * weight[ids[t] - first_row]` for the tokens whose id lies in the shard.
    pub struct Embedding in "embedding" of VARIANTS {
        /// `[tokens]`
        index ids,
        /// `[shard_rows, cols]`, f32, bf16 or in blocks of Q8; `cols` is a multiple of 4.
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
        let dtype = self.weight.dtype();
        assert!(!dtype.is_in_blocks() || dtype == DType::Q8, "embedding: a table in {dtype:?}");
        reaches::<Self>(self.ids, self.tokens as usize);
        reaches::<Self>(self.weight, self.shard_rows as usize * self.cols as usize);
        reaches::<Self>(self.y, self.tokens as usize * self.cols as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let elements = self.tokens as usize * self.cols as usize;
        let read = self.weight.dtype().bytes(elements, self.weight.device().precision());
        let bytes = (read + 4 * elements) as f64;
        let variant = match self.weight.dtype() {
            DType::Bf16 => &VARIANTS[1],
            DType::Q8 => &VARIANTS[2],
            _ => &VARIANTS[0],
        };
        launch_flat(variant, elements / 4, Cost { flops: elements as f64, bytes })
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
                match weight.dtype() {
                    DType::Bf16 => {
                        let row = &weight.bf16s()[first..first + cols];
                        y.iter_mut().zip(row).for_each(|(y, &w)| *y = T::of(from_bf16(w)));
                    }
                    DType::Q8 => weight.unpack(first, y),
                    _ => y.copy_from_slice(&weight.real::<T>()[first..first + cols]),
                }
                y.iter_mut().for_each(|y| *y = scale * *y);
            }
        });
    }
}
