//! The CPU's products by a stored matrix, over all threads.

use rayon::prelude::*;

use crate::device::{DType, Matrix, MatrixMut, Real, Rows, Tensor, Threads, dots, from_bf16, multiply, vectorized};

/// The most rows that are multiplied row by row, on the CPU and on GPUs: a batch of decoded tokens. A row's result does not depend
/// on the others there; beyond them a general product is faster.
pub const FEW_ROWS: usize = 128;

/// The right operand of a product as it is stored: as a twin computes, or in bf16 or in blocks, which are widened where they are
/// read. A row starts `stride` values after the one before.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub tensor: &'a Tensor,
    pub offset: usize,
    pub stride: usize,
}

impl<'a> Stored<'a> {
    /// The values themselves, from the first row on, where they are stored as a twin computes.
    pub fn real<T: Real>(self) -> Option<&'a [T]> {
        (self.tensor.dtype() == DType::Real).then(|| &self.tensor.real::<T>()[self.offset..])
    }

    /// Widens the first values of a row, from column `col` on.
    pub fn widen<T: Real>(self, row: usize, col: usize, values: &mut [T]) {
        let first = self.offset + row * self.stride + col;
        match self.tensor.dtype() {
            DType::Bf16 => vectorized(
                #[inline(always)]
                || {
                    let stored = &self.tensor.bf16s()[first..first + values.len()];
                    for i in 0..values.len() {
                        values[i] = T::of(from_bf16(stored[i]));
                    }
                },
            ),
            _ => self.tensor.unpack(first, values),
        }
    }

    /// Widens whole rows of `inner` values, from row `row` on.
    fn widen_rows<T: Real>(self, row: usize, values: &mut [T], inner: usize) {
        if self.stride == inner {
            return self.widen(row, 0, values);
        }
        for (i, values) in values.chunks_mut(inner.max(1)).enumerate() {
            self.widen(row + i, 0, values);
        }
    }
}

/// `c (+)= a b`, or `c (+)= a b^T` where `transposes_b`, with `a` as it is multiplied.
pub(super) fn parallel_panels<T: Real>(
    c: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Stored<'_>,
    transposes_b: bool,
    inner: usize,
    accumulate: bool,
) {
    for_each_panel(c, b, transposes_b, inner, |Panel { c, b, .. }| {
        multiply(Threads::All, c, a, b, inner, accumulate);
    });
}

/// Some columns of a product, from `first_col` on, and the right operand's values for them, `[inner, cols]`.
pub(super) struct Panel<'a, T> {
    pub first_col: usize,
    pub c: MatrixMut<'a, T>,
    pub b: Matrix<'a, T>,
}

/// Goes over the columns of c: all at once, or where the right operand's values have to be widened, a panel at a time.
pub(super) fn for_each_panel<T: Real>(
    c: MatrixMut<'_, T>,
    b: Stored<'_>,
    transposes_b: bool,
    inner: usize,
    multiply: impl Fn(Panel<'_, T>),
) {
    /// Values of a panel, about: as many as a cache holds.
    const PANEL: usize = 1 << 19;
    /// The columns of a panel are as many, or whole blocks that are longer.
    const UNIT: usize = 64;
    let multiply = |first_col, c: MatrixMut<'_, T>, values: &[T], row_stride| {
        let b = Matrix { data: values, row_stride, col_stride: 1 };
        multiply(Panel { first_col, c, b: if transposes_b { b.transposed() } else { b } });
    };
    if let Some(values) = b.real() {
        return multiply(0, c, values, b.stride);
    }
    let unit = UNIT.max(b.tensor.dtype().block_len());
    let cols = (PANEL / inner.max(1)).next_multiple_of(unit).min(c.cols);
    let mut panel = vec![T::zero(); cols * inner];
    for first in (0..c.cols).step_by(cols.max(1)) {
        let cols = cols.min(c.cols - first);
        let width = if transposes_b { inner } else { cols };
        let values = &mut panel[..cols * inner];
        values.par_chunks_mut(width.max(1)).enumerate().for_each(|(row, values)| {
            let (row, col) = if transposes_b { (first + row, 0) } else { (row, first) };
            b.widen(row, col, values);
        });
        let part = MatrixMut { data: &mut c.data[first..], rows: c.rows, cols, row_stride: c.row_stride };
        multiply(first, part, values, width);
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
    /// Columns of a thread at a time.
    const BLOCK_COLS: usize = 16;
    /// Columns that are widened at a time, into the nearest cache.
    const WIDENED_COLS: usize = 4;
    let MatrixMut { data, rows, cols, row_stride } = c;
    let rows_of_x = Rows { x: x.data, stride: x.row_stride, inner, count: rows };
    let by_blocks = (w.stride == inner).then(|| w.tensor.block_dots(w.offset, rows_of_x)).flatten();
    let multiply = |widened: &mut Vec<T>, first: usize, products: &mut [T]| {
        if let Some(values) = w.real() {
            let w = Matrix { data: &values[first * w.stride..], row_stride: w.stride, col_stride: 1 };
            return dots(products, x, w, inner, rows);
        }
        if let Some(dots) = &by_blocks {
            return dots(first, products);
        }
        widened.resize(WIDENED_COLS * inner, T::zero());
        for (part, products) in products.chunks_mut(WIDENED_COLS * rows).enumerate() {
            let (first, count) = (first + part * WIDENED_COLS, products.len() / rows);
            w.widen_rows(first, &mut widened[..count * inner], inner);
            dots(products, x, Matrix { data: widened, row_stride: inner, col_stride: 1 }, inner, rows);
        }
    };
    // A column's after another's.
    let mut products = vec![T::zero(); cols * rows];
    let blocks = products.par_chunks_mut((BLOCK_COLS * rows).max(1)).enumerate();
    blocks.for_each_init(Vec::new, |widened, (i, products)| multiply(widened, i * BLOCK_COLS, products));
    data.par_chunks_mut(row_stride).take(rows).enumerate().for_each(|(row, c)| {
        for (c, &product) in c[..cols].iter_mut().zip(products[row..].iter().step_by(rows)) {
            *c = if accumulate { *c + product } else { product };
        }
    });
}
