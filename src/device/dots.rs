//! Products of few rows by a weight, as dot products: the weight is streamed once, as it is stored, and the order of a
//! sum depends on its length alone. So a row's result does not depend on the rows beside it, which the blocks of a
//! general product do not promise.

use pulp::{Arch, Simd, WithSimd};

/// Rows of x that are multiplied: `count` of them, of `inner` values, `stride` apart.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    pub x: &'a [T],
    pub stride: usize,
    pub inner: usize,
    pub count: usize,
}

macro_rules! dots {
    ($name:ident, $type:ty, $vector:ident, $as_simd:ident, $splat:ident, $mul_add:ident, $reduce_sum:ident) => {
        /// `y[c * rows + r] = x[r] . w[c]` for rows of `inner` values: of `x`, `x_stride` apart, and of `w`, `w_stride` apart.
        pub struct $name<'a> {
            pub x: &'a [$type],
            pub x_stride: usize,
            pub w: &'a [$type],
            pub w_stride: usize,
            pub inner: usize,
            pub rows: usize,
            pub y: &'a mut [$type],
        }

        impl $name<'_> {
            /// Computes with what the processor has.
            pub fn run(self) {
                Arch::new().dispatch(self);
            }
        }

        impl WithSimd for $name<'_> {
            type Output = ();

            #[inline(always)] // so that it is compiled with the processor's features
            fn with_simd<S: Simd>(self, simd: S) {
                // So many rows and columns are computed together that their sums fit 16 registers beside what they are made of.
                if self.rows == 1 { self.by_tiles::<S, 1, 4>(simd) } else { self.by_tiles::<S, 4, 2>(simd) }
            }
        }

        impl $name<'_> {
            /// A sum is the same whatever is computed beside it.
            #[inline(always)] // as above
            fn by_tiles<S: Simd, const ROWS: usize, const COLS: usize>(self, simd: S) {
                let Self { x, x_stride, w, w_stride, inner, rows, y } = self;
                let cols = y.len() / rows;
                for first_col in (0..cols).step_by(COLS) {
                    for first_row in (0..rows).step_by(ROWS) {
                        // After the last row and column the last is computed again.
                        let (mut x_vectors, mut x_rest) = ([&[] as &[S::$vector]; ROWS], [&[] as &[$type]; ROWS]);
                        let (mut w_vectors, mut w_rest) = ([&[] as &[S::$vector]; COLS], [&[] as &[$type]; COLS]);
                        for i in 0..ROWS {
                            let row = &x[(first_row + i).min(rows - 1) * x_stride..][..inner];
                            (x_vectors[i], x_rest[i]) = S::$as_simd(row);
                        }
                        for j in 0..COLS {
                            let row = &w[(first_col + j).min(cols - 1) * w_stride..][..inner];
                            (w_vectors[j], w_rest[j]) = S::$as_simd(row);
                        }
                        let vectors = x_vectors[0].len();
                        let mut sums = [[simd.$splat(0.0); ROWS]; COLS];
                        for k in 0..vectors {
                            for j in 0..COLS {
                                for i in 0..ROWS {
                                    sums[j][i] = simd.$mul_add(x_vectors[i][k], w_vectors[j][k], sums[j][i]);
                                }
                            }
                        }
                        for j in 0..COLS.min(cols - first_col) {
                            for i in 0..ROWS.min(rows - first_row) {
                                let mut rest = 0.0;
                                for k in 0..x_rest[i].len() {
                                    rest += x_rest[i][k] * w_rest[j][k];
                                }
                                y[(first_col + j) * rows + first_row + i] = simd.$reduce_sum(sums[j][i]) + rest;
                            }
                        }
                    }
                }
            }
        }
    };
}

dots!(DotsF32, f32, f32s, as_simd_f32s, splat_f32s, mul_add_f32s, reduce_sum_f32s);
dots!(DotsF64, f64, f64s, as_simd_f64s, splat_f64s, mul_add_f64s, reduce_sum_f64s);
