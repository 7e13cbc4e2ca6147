//! Linear layers that read the same input, as one product: queries, keys and values; gate and up.

use std::ops::Range;

use super::halves::Halves;
use super::matmul::{Layout, parallel_product};
use super::operand::Operand;
use super::products::Stored;
use super::tiles::{ALL_TEXTS, Tile, TileText, by_tile_or_rows, cost};
use super::{Lines, MaxMagnitude};
use crate::device::{Device, Kernel, MatmulPrecision, Matrix, MatrixMut, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; ALL_TEXTS] = by_tile_or_rows(concat!(
    include_str!("../../shaders/grouped_linear.wgsl"),
    include_str!("../../shaders/shared/linear_parts.wgsl"),
));

kernel! {
    /// `y_p[i, j] = sum over k of x[i, k] w_p[j, k]`. A matrix without rows is not there. Sizes but the rows' are multiples of 4.
    pub struct GroupedLinear in "grouped_linear" of VARIANTS {
        /// `[rows, inner]`
        read x,
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
        /// The bits of the largest magnitudes of the rows of all three matrices, then of those of `x`; not read where the product is
        /// as precise as can be.
        read magnitudes,
        ;
        first_row: u32,
        rows: u32,
        inner: u32,
        cols0: u32,
        cols1: u32,
        cols2: u32,
        ;
        /// What a GPU's workgroups compute; by the shape of the whole product.
        tile: Tile,
        precision: MatmulPrecision,
    }
}

/// A matrix `[cols, inner]` and what becomes of the input `[rows, cols]`.
pub struct GroupedOutput<'a> {
    pub w: &'a Tensor,
    pub y: &'a mut Tensor,
    pub cols: usize,
}

impl GroupedLinear<'_> {
    /// `y = x w^T` of three layers, of `rows` rows of `inner` values, in as many dispatches as it needs.
    pub fn run(device: &Device, x: &Tensor, outputs: [GroupedOutput; 3], rows: usize, inner: usize) {
        let cols = outputs.iter().map(|output| output.cols).sum();
        Self::run_in_tiles(device, x, outputs, rows, inner, Tile::of(rows, cols));
    }

    /// As [`GroupedLinear::run`], in tiles of one's own choice where the adapter computes tiles.
    pub fn run_in_tiles(
        device: &Device,
        x: &Tensor,
        outputs: [GroupedOutput; 3],
        rows: usize,
        inner: usize,
        tile: Tile,
    ) {
        let cols = outputs.iter().map(|output| output.cols).sum();
        let matrices = outputs.each_ref().map(|output| (output.w, output.cols));
        let [first, second, third] = outputs;
        let precision = tile.precision(device, rows + cols);
        let mut run = |magnitudes: &Tensor| {
            for rows in tile.dispatches(device, rows, cols, inner) {
                device.run(GroupedLinear {
                    x,
                    w0: first.w,
                    w1: second.w,
                    w2: third.w,
                    y0: &mut *first.y,
                    y1: &mut *second.y,
                    y2: &mut *third.y,
                    magnitudes,
                    first_row: word(rows.start),
                    rows: word(rows.len()),
                    inner: word(inner),
                    cols0: word(first.cols),
                    cols1: word(second.cols),
                    cols2: word(third.cols),
                    tile,
                    precision,
                });
            }
        };
        if precision == MatmulPrecision::Highest {
            return run(x);
        }
        device.with_magnitudes(|magnitudes| {
            let mut place = 0;
            for (w, cols) in matrices.into_iter().filter(|&(_, cols)| cols > 0) {
                let lines = Lines { matrix: Operand::whole(w, inner), rows: cols, cols: inner, by_column: false };
                MaxMagnitude::run(device, lines, magnitudes, place, false);
                place += cols;
            }
            let lines = Lines { matrix: Operand::whole(x, inner), rows, cols: inner, by_column: false };
            MaxMagnitude::run(device, lines, magnitudes, place, false);
            run(magnitudes);
        });
    }
}

impl Kernel for GroupedLinear<'_> {
    fn check(&self) {
        let end = (self.first_row + self.rows) as usize;
        let inner = self.inner as usize;
        reaches::<Self>(self.x, end * inner);
        let parts =
            [(self.w0, &*self.y0, self.cols0), (self.w1, &*self.y1, self.cols1), (self.w2, &*self.y2, self.cols2)];
        check_parts::<Self>(parts, inner, end);
        if self.precision != MatmulPrecision::Highest {
            reaches::<Self>(self.magnitudes, (self.cols0 + self.cols1 + self.cols2) as usize + end);
        }
    }

    fn launch(&self, traits: Traits) -> Launch {
        let (dtype, cols) = (self.w0.dtype(), [self.cols0, self.cols1, self.cols2]);
        let all: u32 = cols.iter().sum();
        let few_rows = TileText::of_few_rows(&VARIANTS, traits, dtype, self.tile, self.rows, all);
        let text = few_rows.unwrap_or_else(|| TileText::of_tile(&VARIANTS, traits, dtype, self.tile, self.precision));
        text.launch(self.rows, &cols, 1, Vec::new(), cost(self.rows as usize, all as usize, self.inner as usize))
    }

    fn twin<T: Real>(&mut self) {
        let [first_row, rows, inner] = [self.first_row, self.rows, self.inner].map(|n| n as usize);
        let x = Matrix { data: &self.x.real::<T>()[first_row * inner..], row_stride: inner, col_stride: 1 };
        let parts = [
            GroupedOutput { w: self.w0, y: &mut *self.y0, cols: self.cols0 as usize },
            GroupedOutput { w: self.w1, y: &mut *self.y1, cols: self.cols1 as usize },
            GroupedOutput { w: self.w2, y: &mut *self.y2, cols: self.cols2 as usize },
        ];
        let all = parts.iter().map(|part| part.cols).sum::<usize>();
        let halves = |cols| Halves::of(self.precision, self.magnitudes, all + first_row..all + first_row + rows, cols);
        multiply_parts(x, rows, inner, first_row, parts, halves);
    }
}

/// Checks matrices `[cols, inner]` that are stored alike, and outputs of `end` rows: `(w, y, cols)` each.
pub(super) fn check_parts<K: Kernel>(parts: [(&Tensor, &Tensor, u32); 3], inner: usize, end: usize) {
    let (name, dtype) = (K::SIGNATURE.name, parts[0].0.dtype());
    for (w, y, cols) in parts {
        assert!(cols.is_multiple_of(4) && inner.is_multiple_of(4), "{name}: {} is not in fours", w.name());
        assert!(w.dtype() == dtype, "{name}: {} is stored otherwise", w.name());
        reaches::<K>(w, cols as usize * inner);
        reaches::<K>(y, end * cols as usize);
    }
}

/// The twin's `y = x w^T`, from row `first_row` of y on, of each part that has columns; `halves` says how operands are rounded for
/// columns of all parts.
pub(super) fn multiply_parts<'h, T: Real>(
    x: Matrix<'_, T>,
    rows: usize,
    inner: usize,
    first_row: usize,
    parts: [GroupedOutput; 3],
    halves: impl Fn(Range<usize>) -> Option<Halves<'h>>,
) {
    let mut first_col = 0;
    for GroupedOutput { w, y, cols } in parts.into_iter().filter(|part| part.cols > 0) {
        let data = &mut y.real_mut::<T>()[first_row * cols..];
        let y = MatrixMut { data, rows, cols, row_stride: cols };
        let w = Stored { tensor: w, offset: 0, stride: inner };
        parallel_product(Layout::Nt, y, x, w, inner, false, halves(first_col..first_col + cols));
        first_col += cols;
    }
}
