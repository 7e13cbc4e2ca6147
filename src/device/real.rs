//! The two floating-point types that a CPU twin computes in.

use bytemuck::Pod;
use gemm_common::Parallelism;
use num_traits::{Float, NumAssign};

use super::data::Data;
use super::dots::{DotsF32, DotsF64};
use super::exp::exp_f32;

/// `f32` (the working precision everywhere) or `f64` (the reference that every GPU result is held against).
pub trait Real: Float + NumAssign + Pod + Send + Sync + std::iter::Sum + std::fmt::Debug {
    /// The elements of a tensor that is stored in this precision.
    fn slice(data: &Data) -> Option<&[Self]>;

    /// As [`Real::slice`], to be written.
    fn slice_mut(data: &mut Data) -> Option<&mut [Self]>;

    /// The values themselves, where they are `f32`.
    fn f32s(values: &[Self]) -> Option<&[f32]>;

    /// As [`Real::f32s`], to be written.
    fn f32s_mut(values: &mut [Self]) -> Option<&mut [f32]>;

    /// Converts a parameter or an input; exact for `f64`, rounded to nearest for `f32`.
    fn of(value: f64) -> Self;

    /// Widens to `f64`, exactly.
    fn wide(self) -> f64;

    /// `c (+)= a b` through the `gemm` crate, on this thread or on all. The result does not depend on their number.
    ///
    /// `a` and `b` carry both their strides, so a transposed operand is one whose strides are swapped. `accumulate` adds to
    /// `c`, else it is overwritten.
    fn gemm_on(
        threads: Threads,
        c: MatrixMut<'_, Self>,
        a: Matrix<'_, Self>,
        b: Matrix<'_, Self>,
        inner: usize,
        accumulate: bool,
    );

    /// As [`Real::gemm_on`] this thread.
    fn gemm(c: MatrixMut<'_, Self>, a: Matrix<'_, Self>, b: Matrix<'_, Self>, inner: usize, accumulate: bool) {
        Self::gemm_on(Threads::This, c, a, b, inner, accumulate);
    }

    /// `e^x` for loops over many values: of a form that the compiler vectorises in the working precision.
    fn exp_in_loops(self) -> Self;

    /// `y[c * rows + r] = x[r] . w[c]` for few rows of `inner` values, on one thread; each row of an operand has its values
    /// side by side. What a row gives does not depend on the others.
    fn dots(y: &mut [Self], x: Matrix<'_, Self>, w: Matrix<'_, Self>, inner: usize, rows: usize);
}

/// What a product is computed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    This,
    All,
}

/// Partial sums side by side: the compiler can vectorise over them, and the rounding error grows with the length over this.
const LANES: usize = 16;

/// Sums of `term(i)` for `i < len`, in 16 interleaved partial sums.
#[inline]
pub fn sum_terms<T: Real, const N: usize>(len: usize, term: impl Fn(usize) -> [T; N]) -> [T; N] {
    let mut sums = [[T::zero(); LANES]; N];
    for i in 0..len {
        let terms = term(i);
        for n in 0..N {
            sums[n][i % LANES] += terms[n];
        }
    }
    totals(sums)
}

/// As [`sum_terms`] of the values at each place of slices of one length, for loops over many: nothing is checked value by value.
#[inline(always)] // so that it is compiled with the features of the loop that it stands in
pub fn sum_over<T: Real, const M: usize, const N: usize>(slices: [&[T]; M], term: impl Fn([T; M]) -> [T; N]) -> [T; N] {
    // Plain loops over arrays: those of the standard library are not inlined here.
    let (len, whole) = (slices[0].len(), slices[0].len() / LANES * LANES);
    assert!(slices.iter().all(|slice| slice.len() == len), "slices of several lengths");
    let (mut sums, mut values) = ([[T::zero(); LANES]; N], [T::zero(); M]);
    for first in (0..whole).step_by(LANES) {
        let mut lanes = [[T::zero(); LANES]; M];
        for m in 0..M {
            lanes[m].copy_from_slice(&slices[m][first..first + LANES]);
        }
        for lane in 0..LANES {
            for m in 0..M {
                values[m] = lanes[m][lane];
            }
            let terms = term(values);
            for n in 0..N {
                sums[n][lane] += terms[n];
            }
        }
    }
    for i in whole..len {
        for m in 0..M {
            values[m] = slices[m][i];
        }
        let terms = term(values);
        for n in 0..N {
            sums[n][i - whole] += terms[n];
        }
    }
    totals(sums)
}

/// Of each sum its lanes, in order.
#[inline(always)] // as above
fn totals<T: Real, const N: usize>(sums: [[T; LANES]; N]) -> [T; N] {
    let mut totals = [T::zero(); N];
    for n in 0..N {
        for sum in sums[n] {
            totals[n] += sum;
        }
    }
    totals
}

/// The largest of `values`, NaN aside; negative infinity where there is none.
#[inline(always)] // as above
pub fn largest<T: Real>(values: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::neg_infinity(); LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], block[lane]);
        }
    }
    let mut largest = T::neg_infinity();
    for &value in lanes.iter().chain(rest) {
        largest = larger(largest, value);
    }
    largest
}

/// A read-only operand of [`Real::gemm`]: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    pub data: &'a [T],
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Matrix { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    /// A whole row-major array of rows of `cols`.
    pub fn row_major(data: &'a [T], cols: usize) -> Self {
        Matrix { data, row_stride: cols, col_stride: 1 }
    }

    /// The length of `data` that a `rows` x `cols` operand reaches into.
    fn reach(&self, rows: usize, cols: usize) -> usize {
        if rows == 0 || cols == 0 { 0 } else { (rows - 1) * self.row_stride + (cols - 1) * self.col_stride + 1 }
    }
}

/// The output of [`Real::gemm`], row-major: element (i, j) is `data[i * row_stride + j]`.
pub struct MatrixMut<'a, T> {
    pub data: &'a mut [T],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
}

impl<'a, T> MatrixMut<'a, T> {
    /// A whole row-major array of rows of `cols`.
    pub fn row_major(data: &'a mut [T], cols: usize) -> Self {
        let rows = data.len() / cols;
        MatrixMut { data, rows, cols, row_stride: cols }
    }
}

macro_rules! real {
    ($type:ty, $data:ident, $dots:ident, $gemm:path, $exp:path) => {
        impl Real for $type {
            fn slice(data: &Data) -> Option<&[Self]> {
                match data {
                    Data::$data(values) => Some(values),
                    _ => None,
                }
            }

            fn slice_mut(data: &mut Data) -> Option<&mut [Self]> {
                match data {
                    Data::$data(values) => Some(values),
                    _ => None,
                }
            }

            fn f32s(values: &[Self]) -> Option<&[f32]> {
                bytemuck::try_cast_slice(values).ok().filter(|_| size_of::<Self>() == size_of::<f32>())
            }

            fn f32s_mut(values: &mut [Self]) -> Option<&mut [f32]> {
                bytemuck::try_cast_slice_mut(values).ok().filter(|_| size_of::<Self>() == size_of::<f32>())
            }

            #[inline]
            fn of(value: f64) -> Self {
                value as $type
            }

            #[inline]
            fn wide(self) -> f64 {
                f64::from(self)
            }

            #[inline]
            fn exp_in_loops(self) -> Self {
                $exp(self)
            }

            fn gemm_on(
                threads: Threads,
                c: MatrixMut<'_, Self>,
                a: Matrix<'_, Self>,
                b: Matrix<'_, Self>,
                inner: usize,
                accumulate: bool,
            ) {
                let (rows, cols) = (c.rows, c.cols);
                if rows == 0 || cols == 0 {
                    return;
                }
                if inner == 0 {
                    if !accumulate {
                        c.data.chunks_mut(c.row_stride).take(rows).for_each(|row| row[..cols].fill(0.0));
                    }
                    return;
                }
                assert!(c.data.len() >= (rows - 1) * c.row_stride + cols, "gemm: c is too short");
                assert!(a.data.len() >= a.reach(rows, inner), "gemm: a is too short");
                assert!(b.data.len() >= b.reach(inner, cols), "gemm: b is too short");
                // The crates compute column-major outputs, and `c` is row-major: its transpose is computed, b' a'. A single
                // column is both, and goes as it is.
                let (m, n, [c_cs, c_rs], lhs, rhs) = if c.row_stride > 1 {
                    (cols, rows, [c.row_stride, 1], b.transposed(), a.transposed())
                } else {
                    (rows, cols, [1, c.row_stride], a, b)
                };
                let parallelism = match threads {
                    Threads::This => Parallelism::None,
                    Threads::All => Parallelism::Rayon(0),
                };
                // SAFETY: the three assertions above bound every element that the strides reach, and `c` is
                // borrowed exclusively, so it overlaps neither operand.
                unsafe {
                    $gemm()(
                        m,
                        n,
                        inner,
                        c.data.as_mut_ptr(),
                        c_cs as isize,
                        c_rs as isize,
                        accumulate,
                        lhs.data.as_ptr(),
                        lhs.col_stride as isize,
                        lhs.row_stride as isize,
                        rhs.data.as_ptr(),
                        rhs.col_stride as isize,
                        rhs.row_stride as isize,
                        1.0,
                        1.0,
                        false,
                        false,
                        false,
                        parallelism,
                    );
                }
            }

            fn dots(y: &mut [Self], x: Matrix<'_, Self>, w: Matrix<'_, Self>, inner: usize, rows: usize) {
                assert!(x.col_stride == 1 && w.col_stride == 1, "dots: values are not side by side");
                let (x_stride, w_stride) = (x.row_stride, w.row_stride);
                $dots { x: x.data, x_stride, w: w.data, w_stride, inner, rows, y }.run();
            }
        }
    };
}

real!(f32, F32, DotsF32, gemm_f32::gemm::f32::get_gemm_fn, exp_f32);
real!(f64, F64, DotsF64, gemm_f64::gemm::f64::get_gemm_fn, f64::exp);

#[cfg(test)]
mod tests {
    use super::{sum_over, sum_terms};

    #[test]
    fn sums_over_slices_are_those_of_terms() {
        for len in 0..70 {
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let y: Vec<f32> = (0..len).map(|i| (i as f32 * 0.3).cos()).collect();
            let by_place = sum_terms(len, |i| [x[i] * y[i], x[i] + y[i]]);
            assert_eq!(sum_over([&x, &y], |[x, y]| [x * y, x + y]), by_place, "{len} values");
        }
    }
}
