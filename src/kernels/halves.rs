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
use crate::device::{MatmulPrecision, Matrix, MatrixMut, Real, Tensor, Threads, multiply};

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
        const COLS: usize = 512;
        let a = Split::of(a, self.rows, inner, self.precision);
        for_each_panel(c, b, transposes_b, inner, |Panel { first_col, c, b }| {
            for first in (0..c.cols).step_by(COLS) {
                let cols = COLS.min(c.cols - first);
                let magnitudes = &self.cols[first_col + first..][..cols];
                let b = Matrix { data: &b.data[first * b.col_stride..], ..b }.transposed();
                let b = Split::of(b, magnitudes, inner, self.precision);
                let mut add = |a: &[T], b: &[T], accumulate| {
                    let data = &mut c.data[first..];
                    let c = MatrixMut { data, rows: c.rows, cols, row_stride: c.row_stride };
                    let (a, b) = (Matrix::row_major(a, inner), Matrix::row_major(b, inner).transposed());
                    multiply(Threads::All, c, a, b, inner, accumulate);
                };
                add(&a.high, &b.high, accumulate);
                if self.precision == MatmulPrecision::High {
                    add(&a.high, &b.low, true);
                    add(&a.low, &b.high, true);
                }
            }
        });
    }
}

/// A matrix, `[lines, inner]`, as the sum of two whose values are f16s but for the factor of their line; the second is empty where
/// it is left out.
struct Split<T> {
    high: Vec<T>,
    low: Vec<T>,
}

impl<T: Real> Split<T> {
    fn of(matrix: Matrix<'_, T>, magnitudes: &[u32], inner: usize, precision: MatmulPrecision) -> Self {
        let has_low = precision == MatmulPrecision::High;
        let mut high = vec![T::zero(); magnitudes.len() * inner];
        let mut low = vec![T::zero(); if has_low { high.len() } else { 0 }];
        let width = inner.max(1);
        let lines = magnitudes.par_iter().zip(high.par_chunks_mut(width)).enumerate();
        let split = |line: usize, magnitude: u32, high: &mut [T], low: &mut [T]| {
            let factor = factor_of(magnitude);
            for (k, high) in high.iter_mut().enumerate() {
                let x = factor * matrix.data[line * matrix.row_stride + k * matrix.col_stride].wide();
                let rounded = half(x);
                *high = T::of(rounded / factor);
                if let Some(low) = low.get_mut(k) {
                    *low = T::of(half(x - rounded) / factor);
                }
            }
        };
        match has_low {
            true => lines.zip(low.par_chunks_mut(width)).for_each(|((line, (&magnitude, high)), low)| {
                split(line, magnitude, high, low);
            }),
            false => lines.for_each(|(line, (&magnitude, high))| split(line, magnitude, high, &mut [])),
        }
        Split { high, low }
    }
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
        let magnitudes = values.iter().map(|x| (x.wide() as f32).abs()).filter(|x| x.is_finite());
        let factor = factor_of(magnitudes.fold(0.0, f32::max).to_bits());
        let mut low = vec![T::zero(); if precision == MatmulPrecision::High { values.len() } else { 0 }];
        for (i, value) in values.iter_mut().enumerate() {
            let x = factor * value.wide();
            let high = half(x);
            *value = T::of(high / factor);
            if let Some(low) = low.get_mut(i) {
                *low = T::of(half(x - high) / factor);
            }
        }
        RoundedWeights { low }
    }

    /// As an operand, of what was rounded and is `cols` wide.
    pub fn parts<'a>(&'a self, high: &'a [T], cols: usize) -> Parts<'a, T> {
        let low = (!self.low.is_empty()).then(|| Matrix::row_major(&self.low, cols));
        Parts { high: Matrix::row_major(high, cols), low }
    }
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

/// The nearest f16, ties to even, of what is below the largest.
pub(super) fn half(x: f64) -> f64 {
    const LEAST_NORMAL: f64 = 1.0 / 16384.0;
    const STEP_BELOW: f64 = LEAST_NORMAL / 1024.0;
    const DROPPED: u32 = 52 - 10;
    if x.abs() < LEAST_NORMAL {
        return (x / STEP_BELOW).round_ties_even() * STEP_BELOW;
    }
    let bits = x.to_bits();
    let up = (1 << (DROPPED - 1)) - 1 + ((bits >> DROPPED) & 1);
    f64::from_bits(bits.wrapping_add(up) >> DROPPED << DROPPED)
}

#[cfg(test)]
mod tests {
    use half::f16;

    #[test]
    fn halves_are_those_of_the_format() {
        let exact = [1.0, -1.5, 16384.0, 32767.0, 2f64.powi(-14), 2f64.powi(-24), 3.7e-8, 0.0, 1.0 + 2f64.powi(-11)];
        for x in exact.into_iter().chain((0..1000).map(|i| 1.37f64.powi(i % 40 - 25) * f64::from(i - 500))) {
            assert_eq!(super::half(x), f16::from_f64(x).to_f64(), "{x}");
        }
        assert!(super::half(f64::NAN).is_nan());
    }
}
