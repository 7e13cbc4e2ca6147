//! The CPU's products of few rows by a weight, over all threads.

use std::borrow::Cow;

use rayon::prelude::*;

use super::variants::TWIN_BLOCK;
use crate::device::{DType, Matrix, MatrixMut, Real, Tensor};

/// The most rows that are multiplied row by row, on the CPU and on GPUs: a batch of decoded tokens. A row's result does not depend
/// on the others there; beyond them a general product is faster.
pub const FEW_ROWS: usize = 128;

/// The right operand of a product as it is stored: in f32 or f64, or in bf16, which is widened where it is read.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub tensor: &'a Tensor,
    pub offset: usize,
    pub stride: usize,
}

impl<'a> Stored<'a> {
    /// The values of `rows` rows of `cols`, from row `first_row` on; a row starts `stride` after the one before.
    pub fn values<T: Real>(self, first_row: usize, rows: usize, cols: usize) -> Cow<'a, [T]> {
        let len = if rows == 0 { 0 } else { (rows - 1) * self.stride + cols };
        let first = self.offset + first_row * self.stride;
        match self.tensor.dtype() {
            DType::Bf16 => {
                let values = &self.tensor.bf16s()[first..first + len];
                let mut widened = vec![T::zero(); len];
                widened.par_chunks_mut(TWIN_BLOCK).zip(values.par_chunks(TWIN_BLOCK)).for_each(|(widened, values)| {
                    for i in 0..values.len() {
                        widened[i] = T::of(values[i].to_f64());
                    }
                });
                Cow::Owned(widened)
            }
            _ => Cow::Borrowed(&self.tensor.real::<T>()[first..first + len]),
        }
    }
}

/// `c (+)= x w^T` for at most [`FEW_ROWS`] rows of `inner` values. A row's result does not depend on the others.
pub(super) fn parallel_dots<T: Real>(
    c: MatrixMut<'_, T>,
    x: Matrix<'_, T>,
    w: Stored<'_>,
    inner: usize,
    accumulate: bool,
) {
    const BLOCK_COLS: usize = 64;
    let MatrixMut { data, rows, cols, row_stride } = c;
    let block = |first: usize| {
        let count = BLOCK_COLS.min(cols - first);
        let values = w.values::<T>(first, count, inner);
        let mut products = vec![T::zero(); count * rows];
        T::dots(&mut products, x, Matrix { data: &values, row_stride: w.stride, col_stride: 1 }, inner, rows);
        products
    };
    let blocks: Vec<Vec<T>> = (0..cols.div_ceil(BLOCK_COLS)).into_par_iter().map(|i| block(i * BLOCK_COLS)).collect();
    data.par_chunks_mut(row_stride).take(rows).enumerate().for_each(|(row, c)| {
        let products = blocks.iter().flat_map(|block| block[row..].iter().step_by(rows));
        for (c, &product) in c[..cols].iter_mut().zip(products) {
            *c = if accumulate { *c + product } else { product };
        }
    });
}
