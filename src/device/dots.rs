//! Products of few rows by a weight, as dot products: the weight is streamed once, as it is stored, and the order of a
//! sum depends on its length alone. So a row's result does not depend on the rows beside it.

use pulp::{Arch, Simd, WithSimd};

use super::matrix::Matrix;
use super::real::Real;

/// `y[c * rows + r] = x[r] . w[c]` for few rows of `inner` values, on one thread; each row of an operand has its values side
/// by side. What a row gives does not depend on the others.
pub fn dots<T: Real>(y: &mut [T], x: Matrix<'_, T>, w: Matrix<'_, T>, inner: usize, rows: usize) {
    assert!(x.col_stride == 1 && w.col_stride == 1, "dots: values are not side by side");
    Arch::new().dispatch(Dots { y, x, w, inner, rows });
}

struct Dots<'a, T> {
    y: &'a mut [T],
    x: Matrix<'a, T>,
    w: Matrix<'a, T>,
    inner: usize,
    rows: usize,
}

impl<T: Real> WithSimd for Dots<'_, T> {
    type Output = ();

    #[inline(always)] // so that it is compiled with the processor's features
    fn with_simd<S: Simd>(self, simd: S) {
        // So many rows and columns are computed together that their sums fit 16 registers beside what they are made of.
        if self.rows == 1 { self.by_tiles::<S, 1, 4>(simd) } else { self.by_tiles::<S, 4, 2>(simd) }
    }
}

impl<T: Real> Dots<'_, T> {
    /// A sum is the same whatever is computed beside it.
    #[inline(always)] // as above
    fn by_tiles<S: Simd, const ROWS: usize, const COLS: usize>(self, simd: S) {
        let Self { y, x, w, inner, rows } = self;
        let cols = y.len() / rows;
        for first_col in (0..cols).step_by(COLS) {
            for first_row in (0..rows).step_by(ROWS) {
                // After the last row and column the last is computed again.
                let (mut x_vectors, mut x_rest) = ([&[] as &[T::Vector<S>]; ROWS], [&[] as &[T]; ROWS]);
                let (mut w_vectors, mut w_rest) = ([&[] as &[T::Vector<S>]; COLS], [&[] as &[T]; COLS]);
                for i in 0..ROWS {
                    let row = &x.data[(first_row + i).min(rows - 1) * x.row_stride..][..inner];
                    (x_vectors[i], x_rest[i]) = T::vectors::<S>(row);
                }
                for j in 0..COLS {
                    let row = &w.data[(first_col + j).min(cols - 1) * w.row_stride..][..inner];
                    (w_vectors[j], w_rest[j]) = T::vectors::<S>(row);
                }
                let vectors = x_vectors[0].len();
                let mut sums = [[T::splat(simd, T::zero()); ROWS]; COLS];
                for k in 0..vectors {
                    for j in 0..COLS {
                        for i in 0..ROWS {
                            sums[j][i] = T::mul_add_vectors(simd, x_vectors[i][k], w_vectors[j][k], sums[j][i]);
                        }
                    }
                }
                for j in 0..COLS.min(cols - first_col) {
                    for i in 0..ROWS.min(rows - first_row) {
                        let mut rest = T::zero();
                        for k in 0..x_rest[i].len() {
                            rest += x_rest[i][k] * w_rest[j][k];
                        }
                        y[(first_col + j) * rows + first_row + i] = T::sum_vector(simd, sums[j][i]) + rest;
                    }
                }
            }
        }
    }
}
