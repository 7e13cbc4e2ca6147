//! The largest magnitudes of a matrix's rows or columns, by which operands of matrix units are scaled.

use rayon::prelude::*;

use super::operand::Operand;
use super::products::Stored;
use super::tiles::{TYPES, by_type_of_matrix, place_of};
use crate::device::{Device, Kernel, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Cost, Launch, Traits, Variant, line};

static VARIANTS: [Variant; TYPES] = by_type_of_matrix(include_str!("../../shaders/max_magnitude.wgsl"));

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
        let bits = |value: T| (value.wide() as f32).abs().to_bits();
        let widened = |row| match a.real::<T>() {
            Some(values) => values[row * a.stride..][..cols].to_vec(),
            None => {
                let mut values = vec![T::zero(); cols];
                a.widen(row, 0, &mut values);
                values
            }
        };
        let larger = |mut m: Vec<u32>, found: Vec<u32>| {
            m.iter_mut().zip(found).for_each(|(m, found)| *m = (*m).max(found));
            m
        };
        let found: Vec<u32> = match self.by_column {
            true => (0..rows)
                .into_par_iter()
                .map(|row| widened(row).into_iter().map(bits).collect())
                .reduce(|| vec![0; cols], larger),
            false => (0..rows)
                .into_par_iter()
                .map(|row| widened(row).into_iter().map(bits).max().unwrap_or_default())
                .collect(),
        };
        let m = &mut self.m.u32s_mut()[first..][..found.len()];
        for (m, found) in m.iter_mut().zip(found) {
            *m = if self.accumulate != 0 { found.max(*m) } else { found };
        }
    }
}
