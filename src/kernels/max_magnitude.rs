//! The largest magnitudes of a matrix's rows or columns, by which operands of matrix units are scaled.

#![expect(
    clippy::needless_range_loop,
    reason = "iterators are not inlined into what is compiled with the processor's features, and loops over them not vectorised"
)]

use std::ops::Range;

use rayon::prelude::*;

use super::operand::Operand;
use super::products::Stored;
use super::tiles::{TYPES, by_type_of_matrix, place_of};
use crate::device::{Device, Kernel, Real, Tensor, kernel, reaches, vectorized, word};
use crate::gpu::{Cost, Launch, Traits, Variant, line};

static VARIANTS: [Variant; TYPES] = by_type_of_matrix(include_str!("../../shaders/max_magnitude.wgsl"));

/// Rows that a thread takes at a time in the twin.
const ROWS_AT_A_TIME: usize = 32;

kernel! {
    /// `m[i] = max over j of |a[i, j]|`, or of columns, as the bits of an f32.
    pub struct MaxMagnitude in "max_magnitude" of VARIANTS {
        /// `[rows, a_stride]`, f32, bf16 or in blocks.
        read a,
        /// `[rows]`, or `[cols]`, from `m_offset` on.
        write m,
        ;
        rows: u32,
        cols: u32,
        /// In values, a multiple of 4, as is the next.
        a_offset: u32,
        a_stride: u32,
        m_offset: u32,
        /// 1: what is in `m` counts too; 0: it is overwritten.
        accumulate: u32,
        ;
        by_column: bool,
    }
}

/// A matrix as it is stored, and whether it is its columns' magnitudes that are asked for.
#[derive(Clone, Copy)]
pub struct Lines<'a> {
    pub matrix: Operand<'a>,
    pub rows: usize,
    pub cols: usize,
    pub by_column: bool,
}

impl Lines<'_> {
    /// Of the transposed matrix, which is stored as this one says: rows are its columns.
    pub fn transposed(self) -> Self {
        Lines { rows: self.cols, cols: self.rows, by_column: !self.by_column, ..self }
    }
}

impl MaxMagnitude<'_> {
    /// The magnitudes of a matrix's rows or columns, from place `first` of `m` on; where `accumulate`, larger ones that are there
    /// stay. In as many dispatches as it needs.
    pub fn run(device: &Device, lines: Lines, m: &mut Tensor, first: usize, accumulate: bool) {
        let Lines { matrix, rows, cols, by_column } = lines;
        let step = cost(matrix.tensor, 1, cols).per_dispatch(device.rates(), rows);
        for row in (0..rows).step_by(step) {
            device.run(MaxMagnitude {
                a: matrix.tensor,
                m: &mut *m,
                rows: word(step.min(rows - row)),
                cols: word(cols),
                a_offset: word(matrix.offset + row * matrix.stride),
                a_stride: word(matrix.stride),
                m_offset: word(if by_column { first } else { first + row }),
                accumulate: u32::from(accumulate || (by_column && row > 0)),
                by_column,
            });
        }
    }
}

fn cost(a: &Tensor, rows: usize, cols: usize) -> Cost {
    Cost { flops: 0.0, bytes: a.dtype().bytes(rows * cols, a.device().precision()) as f64 }
}

impl Kernel for MaxMagnitude<'_> {
    fn check(&self) {
        let [rows, cols, offset, stride] = [self.rows, self.cols, self.a_offset, self.a_stride].map(|n| n as usize);
        assert!([cols, offset, stride].iter().all(|n| n.is_multiple_of(4)), "max_magnitude: a is not in fours");
        let lines = if self.by_column { cols } else { rows };
        reaches::<Self>(self.m, self.m_offset as usize + lines);
        if rows > 0 && cols > 0 {
            reaches::<Self>(self.a, offset + (rows - 1) * stride + cols);
        }
    }

    fn launch(&self, _: Traits) -> Launch {
        // LINES of the shader.
        let workgroups = if self.by_column { self.cols.div_ceil(4 * 16) } else { self.rows.div_ceil(4) };
        Launch {
            variant: &VARIANTS[place_of(self.a.dtype())],
            constants: vec![("BY_COLUMN", f64::from(self.by_column))],
            workgroups: line(workgroups as usize),
            cost: cost(self.a, self.rows as usize, self.cols as usize),
        }
    }

    fn twin<T: Real>(&mut self) {
        let [rows, cols, first] = [self.rows, self.cols, self.m_offset].map(|n| n as usize);
        let a = Stored { tensor: self.a, offset: self.a_offset as usize, stride: self.a_stride as usize };
        let by_column = self.by_column;
        // A row's values at a time into what is found: of each column, or of the whole row.
        let magnitudes = |rows: Range<usize>| {
            let (mut widened, mut found) = (vec![T::zero(); cols], vec![0; if by_column { cols } else { rows.len() }]);
            for (i, row) in rows.enumerate() {
                let values = match a.real::<T>() {
                    Some(values) => &values[row * a.stride..][..cols],
                    None => {
                        a.widen(row, 0, &mut widened);
                        &widened[..]
                    }
                };
                match by_column {
                    true => larger(&mut found, values),
                    false => found[i] = largest(values),
                }
            }
            found
        };
        let starts: Vec<usize> = (0..rows).step_by(ROWS_AT_A_TIME).collect();
        let parts = starts.into_par_iter().map(|row| magnitudes(row..rows.min(row + ROWS_AT_A_TIME)));
        let found = match by_column {
            true => {
                parts.reduce(|| vec![0; cols], |m, found| m.into_iter().zip(found).map(|(a, b)| a.max(b)).collect())
            }
            false => parts.flatten_iter().collect::<Vec<u32>>(),
        };
        let m = &mut self.m.u32s_mut()[first..][..found.len()];
        for (m, found) in m.iter_mut().zip(found) {
            *m = if self.accumulate != 0 { found.max(*m) } else { found };
        }
    }
}

/// The bits of a magnitude as an f32.
#[inline(always)] // so that it is compiled with the features of the loop that it stands in
fn bits<T: Real>(value: T) -> u32 {
    (value.wide() as f32).abs().to_bits()
}

/// The largest magnitude's.
fn largest<T: Real>(values: &[T]) -> u32 {
    vectorized(
        #[inline(always)]
        || {
            let mut largest = 0;
            for i in 0..values.len() {
                largest = bits(values[i]).max(largest);
            }
            largest
        },
    )
}

/// Puts larger magnitudes in place of those that are there.
fn larger<T: Real>(found: &mut [u32], values: &[T]) {
    vectorized(
        #[inline(always)]
        || {
            let found = &mut found[..values.len()];
            for i in 0..values.len() {
                found[i] = bits(values[i]).max(found[i]);
            }
        },
    );
}
