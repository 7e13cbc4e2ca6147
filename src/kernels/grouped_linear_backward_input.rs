//! The gradient of what several linear layers read, as one product.

use super::halves::Halves;
use super::matmul::{Layout, parallel_product};
use super::operand::Operand;
use super::products::Stored;
use super::tiles::{TILE_TEXTS, Tile, TileText, by_tile, cost};
use super::{Lines, MaxMagnitude};
use crate::device::{Device, Kernel, MatmulPrecision, Matrix, MatrixMut, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; TILE_TEXTS] = by_tile(include_str!("../../shaders/grouped_linear_backward_input.wgsl"));

kernel! {
    /// `dx[i, j] = sum over p and k of dy_p[i, k] w_p[k, j]`. A matrix without rows is not there. Sizes but the rows' are
    /// multiples of 4.
    pub struct GroupedLinearBackwardInput in "grouped_linear_backward_input" of VARIANTS {
        /// `[rows, inner0]`
        read dy0,
        /// `[rows, inner1]`
        read dy1,
        /// `[rows, inner2]`
        read dy2,
        /// `[inner0, cols]`, f32, bf16 or in blocks, as all three.
        read w0,
        /// `[inner1, cols]`
        read w1,
        /// `[inner2, cols]`
        read w2,
        /// `[rows, cols]`
        write dx,
        /// The bits of the largest magnitudes of the columns of all three matrices, then of the rows of all gradients; not read where
        /// the product is as precise as can be.
        read magnitudes,
        ;
        first_row: u32,
        rows: u32,
        cols: u32,
        inner0: u32,
        inner1: u32,
        inner2: u32,
        ;
        /// What a GPU's workgroups compute; by the shape of the whole product.
        tile: Tile,
        precision: MatmulPrecision,
    }
}

/// A matrix `[inner, cols]` and the gradient of its layer's output `[rows, inner]`.
#[derive(Clone, Copy)]
pub struct GroupedGradient<'a> {
    pub w: &'a Tensor,
    pub dy: &'a Tensor,
    pub inner: usize,
}

impl GroupedLinearBackwardInput<'_> {
    /// `dx = sum of dy w` of three layers, of `rows` rows of `cols` values, in as many dispatches as it needs.
    pub fn run(device: &Device, gradients: [GroupedGradient; 3], dx: &mut Tensor, rows: usize, cols: usize) {
        Self::run_in_tiles(device, gradients, dx, rows, cols, Tile::of(rows, cols));
    }

    /// As [`GroupedLinearBackwardInput::run`], in tiles of one's own choice where the adapter computes tiles.
    pub fn run_in_tiles(
        device: &Device,
        gradients: [GroupedGradient; 3],
        dx: &mut Tensor,
        rows: usize,
        cols: usize,
        tile: Tile,
    ) {
        let inner = gradients.iter().map(|gradient| gradient.inner).sum();
        let precision = tile.precision(device, rows + cols);
        let [first, second, third] = gradients;
        let mut run = |magnitudes: &Tensor| {
            for rows in tile.dispatches(device, rows, cols, inner) {
                device.run(GroupedLinearBackwardInput {
                    dy0: first.dy,
                    dy1: second.dy,
                    dy2: third.dy,
                    w0: first.w,
                    w1: second.w,
                    w2: third.w,
                    dx: &mut *dx,
                    magnitudes,
                    first_row: word(rows.start),
                    rows: word(rows.len()),
                    cols: word(cols),
                    inner0: word(first.inner),
                    inner1: word(second.inner),
                    inner2: word(third.inner),
                    tile,
                    precision,
                });
            }
        };
        if precision == MatmulPrecision::Highest {
            return run(first.dy);
        }
        device.with_magnitudes(|magnitudes| {
            let mut accumulate = false;
            for GroupedGradient { w, dy, inner } in [first, second, third].into_iter().filter(|part| part.inner > 0) {
                let columns = Lines { matrix: Operand::whole(w, cols), rows: inner, cols, by_column: true };
                MaxMagnitude::run(device, columns, magnitudes, 0, accumulate);
                let of_rows = Lines { matrix: Operand::whole(dy, inner), rows, cols: inner, by_column: false };
                MaxMagnitude::run(device, of_rows, magnitudes, cols, accumulate);
                accumulate = true;
            }
            run(magnitudes);
        });
    }
}

impl Kernel for GroupedLinearBackwardInput<'_> {
    fn check(&self) {
        let end = (self.first_row + self.rows) as usize;
        let cols = self.cols as usize;
        reaches::<Self>(self.dx, end * cols);
        if self.precision != MatmulPrecision::Highest {
            reaches::<Self>(self.magnitudes, cols + end);
        }
        let parts =
            [(self.w0, self.dy0, self.inner0), (self.w1, self.dy1, self.inner1), (self.w2, self.dy2, self.inner2)];
        for (w, dy, inner) in parts {
            let in_fours = cols.is_multiple_of(4) && inner.is_multiple_of(4);
            assert!(in_fours, "grouped_linear_backward_input: {} is not in fours", w.name());
            assert!(w.dtype() == self.w0.dtype(), "grouped_linear_backward_input: {} is stored otherwise", w.name());
            reaches::<Self>(w, inner as usize * cols);
            reaches::<Self>(dy, end * inner as usize);
        }
    }

    fn launch(&self, traits: Traits) -> Launch {
        let inner = self.inner0 + self.inner1 + self.inner2;
        let cost = cost(self.rows as usize, self.cols as usize, inner as usize);
        let text = TileText::of_tile(&VARIANTS, traits, self.w0.dtype(), self.tile, self.precision);
        text.launch(self.rows, &[self.cols], 1, Vec::new(), cost)
    }

    fn twin<T: Real>(&mut self) {
        let [first_row, rows, cols] = [self.first_row, self.rows, self.cols].map(|n| n as usize);
        let parts =
            [(self.w0, self.dy0, self.inner0), (self.w1, self.dy1, self.inner1), (self.w2, self.dy2, self.inner2)];
        let dx = &mut self.dx.real_mut::<T>()[first_row * cols..];
        let first = cols + first_row;
        let halves = Halves::of(self.precision, self.magnitudes, first..first + rows, 0..cols);
        let mut accumulate = false;
        for (w, dy, inner) in parts.into_iter().filter(|(_, _, inner)| *inner > 0) {
            let inner = inner as usize;
            let dy = Matrix { data: &dy.real::<T>()[first_row * inner..], row_stride: inner, col_stride: 1 };
            let dx = MatrixMut { data: &mut *dx, rows, cols, row_stride: cols };
            let w = Stored { tensor: w, offset: 0, stride: cols };
            parallel_product(Layout::Nn, dx, dy, w, inner, accumulate, halves);
            accumulate = true;
        }
    }
}
