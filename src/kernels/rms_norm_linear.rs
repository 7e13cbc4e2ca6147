//! Linear layers of few rows that read the same norm's output, with RMSNorm, as one product on a GPU: decoding.

use rayon::prelude::*;

use super::grouped_linear::{GroupedOutput, check_parts, multiply_parts};
use super::rms_norm::normalise;
use super::tiles::{ROWS_COLS, ROWS_TEXTS, Tile, TileText, by_norm_rows, cost};
use crate::device::{Device, Kernel, Matrix, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; ROWS_TEXTS] = by_norm_rows(concat!(
    include_str!("../../shaders/rms_norm_linear.wgsl"),
    include_str!("../../shaders/shared/linear_parts.wgsl"),
));

/// RMSNorm's scale, and how it is applied.
#[derive(Clone, Copy)]
pub struct NormScale<'a> {
    /// `[cols]`
    pub weight: &'a Tensor,
    pub epsilon: f32,
    /// 1 where the stored weight is the scale less 1 (Gemma), else 0.
    pub offset: f32,
}

kernel! {
    /// `y_p[i, j] = sum over k of n[i, k] w_p[j, k]`, `n = x / sqrt(mean(x^2) + epsilon) * (offset + norm)`, of few rows. A matrix
    /// without rows is not there. Sizes but the rows' are multiples of 4.
    pub struct RmsNormLinear in "rms_norm_linear" of VARIANTS {
        /// `[rows, inner]`
        read x,
        /// `[inner]`
        read norm,
        /// `[cols0, inner]`, f32, bf16 or in blocks, as all three.
        read w0,
        /// `[cols1, inner]`
        read w1,
        /// `[cols2, inner]`
        read w2,
        /// `[rows, cols0]`
        write y0,
        /// `[rows, cols1]`
        write y1,
        /// `[rows, cols2]`
        write y2,
        ;
        first_row: u32,
        rows: u32,
        inner: u32,
        cols0: u32,
        cols1: u32,
        cols2: u32,
        epsilon: f32,
        offset: f32,
    }
}

impl RmsNormLinear<'_> {
    /// `y = norm(x) w^T` of three layers, of `rows` rows of `inner` values, in as many dispatches as it needs.
    pub fn run(device: &Device, x: &Tensor, scale: NormScale, outputs: [GroupedOutput; 3], rows: usize, inner: usize) {
        let cols = outputs.iter().map(|output| output.cols).sum();
        let [first, second, third] = outputs;
        for rows in Tile::of(rows, cols).dispatches(device, rows, cols, inner) {
            device.run(RmsNormLinear {
                x,
                norm: scale.weight,
                w0: first.w,
                w1: second.w,
                w2: third.w,
                y0: &mut *first.y,
                y1: &mut *second.y,
                y2: &mut *third.y,
                first_row: word(rows.start),
                rows: word(rows.len()),
                inner: word(inner),
                cols0: word(first.cols),
                cols1: word(second.cols),
                cols2: word(third.cols),
                epsilon: scale.epsilon,
                offset: scale.offset,
            });
        }
    }
}

impl Kernel for RmsNormLinear<'_> {
    fn check(&self) {
        let end = (self.first_row + self.rows) as usize;
        let inner = self.inner as usize;
        reaches::<Self>(self.x, end * inner);
        reaches::<Self>(self.norm, inner);
        let parts =
            [(self.w0, &*self.y0, self.cols0), (self.w1, &*self.y1, self.cols1), (self.w2, &*self.y2, self.cols2)];
        check_parts::<Self>(parts, inner, end);
    }

    fn launch(&self, _: Traits) -> Launch {
        let cols = [self.cols0, self.cols1, self.cols2];
        let all: u32 = cols.iter().sum();
        let text = TileText::of_rows(&VARIANTS, self.w0.dtype(), self.rows, ROWS_COLS);
        text.launch(self.rows, &cols, 1, Vec::new(), cost(self.rows as usize, all as usize, self.inner as usize))
    }

    fn twin<T: Real>(&mut self) {
        let [first_row, rows, inner] = [self.first_row, self.rows, self.inner].map(|n| n as usize);
        let scale = NormScale { weight: self.norm, epsilon: self.epsilon, offset: self.offset };
        let n = normalised::<T>(self.x, scale, first_row, rows, inner);
        let parts = [
            GroupedOutput { w: self.w0, y: &mut *self.y0, cols: self.cols0 as usize },
            GroupedOutput { w: self.w1, y: &mut *self.y1, cols: self.cols1 as usize },
            GroupedOutput { w: self.w2, y: &mut *self.y2, cols: self.cols2 as usize },
        ];
        multiply_parts(Matrix { data: &n, row_stride: inner, col_stride: 1 }, rows, inner, first_row, parts, |_| None);
    }
}

/// The twin's `norm(x)`, `[rows, inner]`, of `rows` rows from row `first_row` on.
pub(super) fn normalised<T: Real>(x: &Tensor, scale: NormScale, first_row: usize, rows: usize, inner: usize) -> Vec<T> {
    let (epsilon, offset) = (T::of(scale.epsilon.into()), T::of(scale.offset.into()));
    let x = &x.real::<T>()[first_row * inner..][..rows * inner];
    let weight = &scale.weight.real::<T>()[..inner];
    let mut n = vec![T::zero(); rows * inner];
    (x.par_chunks(inner), n.par_chunks_mut(inner)).into_par_iter().for_each(|(x, n)| {
        normalise(x, weight, epsilon, offset, n);
    });
    n
}
