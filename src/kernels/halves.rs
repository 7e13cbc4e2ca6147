//! Products of operands that are rounded as matrix units take them: the arithmetic of `shared/matmul_matrices.wgsl`.
//!
//! A row of `a`, and a column of `b`, is scaled by a power of two to a largest value from 2^14 up to 2^15, and a value is then one
//! f16, `high`, or the sum of two, `high + low`, of whose products that of the low parts is left out (Markidis et al. 2018, Ootomo and
//! Yokota 2022). An f16 has 11 bits, rounded to nearest: of x from 1 up to 2 `high` leaves 2^-11 at most, and of that `low` 2^-23. So
//!
//! ```text
//! |a b - a_high b_high| <= 2^-10 |a b|,   |a b - (a_high b_high + a_high b_low + a_low b_high)| <= (2^-23 + 2^-23 + 2^-22) |a b|
//! ```
//!
//! about, and of a sum over the k, by Cauchy and Schwarz, as much of the product of the row's and the column's norms. Below 2^-14 an
//! f16 has fewer bits: what is 2^-39 of a line's largest value is lost.

use std::ops::Range;

use rayon::prelude::*;

use super::products::{Panel, Stored, for_each_panel};
use crate::device::{MatmulPrecision, Matrix, MatrixMut, Real, Tensor, Threads, multiply, vectorized};

/// How the operands of a product are rounded: by the largest magnitudes of rows of `a` and columns of `b`, as the bits of an f32.
#[derive(Clone, Copy)]
pub(super) struct Halves<'a> {
    precision: MatmulPrecision,
    rows: &'a [u32],
    cols: &'a [u32],
}

impl<'a> Halves<'a> {
    /// Of a product that is so precise, by these places of the magnitudes; `None` where its operands are taken as they are.
    pub fn of(
        precision: MatmulPrecision,
        magnitudes: &'a Tensor,
        rows: Range<usize>,
        cols: Range<usize>,
    ) -> Option<Self> {
        (precision != MatmulPrecision::Highest).then(|| {
            let magnitudes = magnitudes.u32s();
            Halves { precision, rows: &magnitudes[rows], cols: &magnitudes[cols] }
        })
    }

    /// `c (+)= a b`, or `c (+)= a b^T` where `transposes_b`.
    pub fn multiply<T: Real>(
        self,
        c: MatrixMut<'_, T>,
        a: Matrix<'_, T>,
        b: Stored<'_>,
        transposes_b: bool,
        inner: usize,
        accumulate: bool,
    ) {
        /// Columns that are rounded at a time.
        const COLS: usize = 1024;
        let a = Split::of(a, self.rows, inner, self.precision);
        for_each_panel(c, b, transposes_b, inner, |Panel { first_col, c, b }| {
            for first in (0..c.cols).step_by(COLS) {
                let cols = COLS.min(c.cols - first);
                let magnitudes = &self.cols[first_col + first..][..cols];
                let b = Matrix { data: &b.data[first * b.col_stride..], ..b }.transposed();
                let b = Split::of(b, magnitudes, inner, self.precision);
                let mut add = |part_of_a, part_of_b, accumulate| {
                    let data = &mut c.data[first..];
                    let c = MatrixMut { data, rows: c.rows, cols, row_stride: c.row_stride };
                    multiply(Threads::All, c, a.part(part_of_a), b.part(part_of_b).transposed(), inner, accumulate);
                };
                add(0, 0, accumulate);
                if self.precision == MatmulPrecision::High {
                    add(0, 1, true);
                    add(1, 0, true);
                }
            }
        });
    }
}

/// A matrix, `[lines, inner]`, as the sum of two whose values are f16s but for the factor of their line; the second is empty where
/// it is left out. Values lie as they did before, of each row both parts side by side.
struct Split<T> {
    values: Vec<T>,
    /// Of a row, as they lie.
    width: usize,
    parts: usize,
    /// A row is one value of every line, in place of a line.
    is_transposed: bool,
}

impl<T: Real> Split<T> {
    fn of(matrix: Matrix<'_, T>, magnitudes: &[u32], inner: usize, precision: MatmulPrecision) -> Self {
        let factors: Vec<T> = magnitudes.iter().map(|&magnitude| T::of(factor_of(magnitude))).collect();
        let is_transposed = matrix.col_stride != 1;
        let (rows, width) = if is_transposed { (inner, factors.len()) } else { (factors.len(), inner) };
        let stride = if is_transposed { matrix.col_stride } else { matrix.row_stride };
        let parts = if precision == MatmulPrecision::High { 2 } else { 1 };
        let mut values = vec![T::zero(); rows * parts * width];
        values.par_chunks_mut((parts * width).max(1)).enumerate().for_each(|(row, values)| {
            let x = &matrix.data[row * stride..][..width];
            let (high, low) = values.split_at_mut(width);
            vectorized(
                #[inline(always)]
                || {
                    if is_transposed {
                        let factors = &factors[..x.len()];
                        return split(x, high, low, |i| factors[i]);
                    }
                    let factor = factors[row];
                    split(x, high, low, |_| factor);
                },
            );
        });
        Split { values, width, parts, is_transposed }
    }

    fn part(&self, part: usize) -> Matrix<'_, T> {
        let data = self.values.get(part * self.width..).unwrap_or_default();
        let matrix = Matrix { data, row_stride: self.parts * self.width, col_stride: 1 };
        if self.is_transposed { matrix.transposed() } else { matrix }
    }
}

/// The parts of values; `low` is empty where it is left out.
#[inline(always)] // so that it is compiled with the processor's features
fn split<T: Real>(x: &[T], high: &mut [T], low: &mut [T], factor: impl Fn(usize) -> T) {
    let high = &mut high[..x.len()];
    for i in 0..x.len() {
        high[i] = high_part(x[i], factor(i));
    }
    let len = low.len().min(x.len());
    for i in 0..len {
        low[i] = low_part(x[i], factor(i));
    }
}

/// The f16 nearest to a scaled value, scaled back.
#[inline(always)] // as above
fn high_part<T: Real>(x: T, factor: T) -> T {
    (factor * x).to_nearest_f16() / factor
}

/// That of what the high part leaves.
#[inline(always)] // as above
fn low_part<T: Real>(x: T, factor: T) -> T {
    let x = factor * x;
    (x - x.to_nearest_f16()).to_nearest_f16() / factor
}

/// An operand of attention, or the two parts of one.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a, T> {
    pub high: Matrix<'a, T>,
    pub low: Option<Matrix<'a, T>>,
}

impl<'a, T: Real> Parts<'a, T> {
    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Parts { high: self.high.transposed(), low: self.low.map(Matrix::transposed) }
    }

    /// `c (+)= a b` on this thread; of two parts that of the low ones is left out.
    pub fn multiply(self, c: &mut MatrixMut<'_, T>, b: Self, inner: usize, accumulate: bool) {
        let mut add = |a, b, accumulate| {
            let c = MatrixMut { data: &mut *c.data, ..*c };
            multiply(Threads::This, c, a, b, inner, accumulate);
        };
        add(self.high, b.high, accumulate);
        if let (Some(a_low), Some(b_low)) = (self.low, b.low) {
            add(self.high, b_low, true);
            add(a_low, b.high, true);
        }
    }
}

/// Weights of attention as its second product takes them.
pub(super) struct RoundedWeights<T> {
    low: Vec<T>,
}

impl<T: Real> RoundedWeights<T> {
    /// Rounds weights where the product is not as precise as can be, by the largest of them.
    pub fn round(values: &mut [T], precision: MatmulPrecision) -> Self {
        if precision == MatmulPrecision::Highest {
            return RoundedWeights { low: Vec::new() };
        }
        let mut low = vec![T::zero(); if precision == MatmulPrecision::High { values.len() } else { 0 }];
        vectorized(
            #[inline(always)]
            || {
                let factor = T::of(factor_of((largest_finite(values).wide() as f32).to_bits()));
                for i in 0..low.len() {
                    low[i] = low_part(values[i], factor);
                }
                for value in values.iter_mut() {
                    *value = high_part(*value, factor);
                }
            },
        );
        RoundedWeights { low }
    }

    /// As an operand, of what was rounded and is `cols` wide.
    pub fn parts<'a>(&'a self, high: &'a [T], cols: usize) -> Parts<'a, T> {
        let low = (!self.low.is_empty()).then(|| Matrix::row_major(&self.low, cols));
        Parts { high: Matrix::row_major(high, cols), low }
    }
}

/// The largest magnitude that is a finite number.
#[inline(always)] // as above
fn largest_finite<T: Real>(values: &[T]) -> T {
    let larger = |a: T, b: T| if b > a && b < T::infinity() { b } else { a };
    let mut lanes = [T::zero(); 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        for lane in 0..16 {
            lanes[lane] = larger(lanes[lane], block[lane].abs());
        }
    }
    let mut largest = T::zero();
    for value in lanes.iter().chain(rest) {
        largest = larger(largest, value.abs());
    }
    largest
}

/// The power of two that a line is scaled by, of the bits of its largest magnitude, as an exponent that is biased as an f32's: one that
/// brings it to 2^14 or above, below 2^15; where it is subnormal, as large a one as has a normal inverse.
pub(super) fn exponent_of(magnitude: u32) -> u32 {
    (268 - (magnitude >> 23)).min(253)
}

/// The power of two itself; no number where the largest magnitude is none.
fn factor_of(magnitude: u32) -> f64 {
    match magnitude >> 23 {
        255 => f64::NAN,
        _ => power(exponent_of(magnitude)),
    }
}

/// Of an exponent that is biased as an f32's.
pub(super) fn power(exponent: u32) -> f64 {
    f32::from_bits(exponent << 23).into()
}
