//! Token embedding, backward, over one row shard of the table: a sum by id without atomics.

use rayon::prelude::*;

use super::variants::{launch_flat, only, shared};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/embedding_backward.wgsl"), &[shared::GRID]);

kernel! {
    /// `dweight[id - first_row] += scale * sum over the tokens t with that id of dy[t]`, the tokens grouped by id.
    pub struct EmbeddingBackward in "embedding_backward" of VARIANTS {
        /// `[tokens]`: token numbers, group by group, ascending in each.
        index order,
        /// `[groups + 1]`: where each group starts in `order`.
        index group_starts,
        /// `[groups]`: the id of each group, ascending.
        index group_ids,
        /// `[tokens, cols]`
        read dy,
        /// `[shard_rows, cols]`
        write dweight,
        ;
        groups: u32,
        cols: u32,
        /// The id of the shard's first row.
        first_row: u32,
        shard_rows: u32,
        /// As in the forward pass.
        scale: f32,
    }
}

impl Kernel for EmbeddingBackward<'_> {
    fn check(&self) {
        assert!(self.cols.is_multiple_of(4), "embedding_backward: {} columns are not a multiple of 4", self.cols);
        reaches::<Self>(self.group_starts, self.groups as usize + 1);
        reaches::<Self>(self.group_ids, self.groups as usize);
        reaches::<Self>(self.dy, self.order.len() * self.cols as usize);
        reaches::<Self>(self.dweight, self.shard_rows as usize * self.cols as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let elements = self.order.len() * self.cols as usize;
        launch_flat(
            &VARIANTS[0],
            self.groups as usize * self.cols as usize / 4,
            Cost { flops: elements as f64, bytes: 8.0 * elements as f64 },
        )
    }

    fn twin<T: Real>(&mut self) {
        let cols = self.cols as usize;
        let scale = T::of(self.scale.into());
        let (order, starts) = (self.order.u32s(), self.group_starts.u32s());
        let (ids, dy) = (&self.group_ids.u32s()[..self.groups as usize], self.dy.real::<T>());
        let dweight = self.dweight.real_mut::<T>();
        // The ids ascend, so each group's row is split off the rows that are left.
        let mut rest = &mut dweight[..self.shard_rows as usize * cols];
        let mut next_row = self.first_row;
        let mut work = Vec::with_capacity(ids.len());
        for (group, &id) in ids.iter().enumerate() {
            if id.wrapping_sub(self.first_row) >= self.shard_rows {
                continue;
            }
            let (_, from_row) = rest.split_at_mut((id - next_row) as usize * cols);
            let (row, after) = from_row.split_at_mut(cols);
            work.push((&order[starts[group] as usize..starts[group + 1] as usize], row));
            (rest, next_row) = (after, id + 1);
        }
        work.into_par_iter().for_each(|(tokens, row)| {
            for (c, dweight) in row.iter_mut().enumerate() {
                let mut sum = T::zero();
                for &t in tokens {
                    sum += dy[t as usize * cols + c];
                }
                *dweight += scale * sum;
            }
        });
    }
}
