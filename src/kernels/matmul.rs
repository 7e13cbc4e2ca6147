//! The matrix product of every linear layer, forward and backward, of f32 activations by weights or by each other.

use std::ops::Range;

use super::halves::Halves;
use super::operand::{Operand, OperandMut};
use super::products::{FEW_ROWS, Stored, parallel_dots, parallel_panels};
use super::tiles::{ALL_TEXTS, DEPTH, Tile, TileText, by_tile_or_rows, cost};
use super::{ColumnSum, Lines, MaxMagnitude};
use crate::device::{Device, Kernel, MatmulPrecision, Matrix, MatrixMut, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; ALL_TEXTS] = by_tile_or_rows(include_str!("../../shaders/matmul.wgsl"));

/// How the operands of `c = a b` are stored: each as it is (n) or transposed (t), first `a`, then `b`. Every stored
/// matrix has a multiple of 4 columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `c = a b^T`: `a` is `[rows, inner]`, `b` is `[cols, inner]`. A layer's output, `y = x W^T`.
    Nt,
    /// `c = a b`: `a` is `[rows, inner]`, `b` is `[inner, cols]`. A layer's input gradient, `dx = dy W`.
    Nn,
    /// `c = a^T b`: `a` is `[inner, rows]`, `b` is `[inner, cols]`. A layer's weight gradient, `dW = dy^T x`.
    Tn,
}

impl Layout {
    fn transposes_a(self) -> bool {
        self == Layout::Tn
    }

    fn transposes_b(self) -> bool {
        self == Layout::Nt
    }
}

/// What [`Matmul::run`] multiplies: `c (+)= a b`, of `rows` x `inner` by `inner` x `cols` values.
pub struct Product<'a> {
    /// How `a` and `b` are stored.
    pub layout: Layout,
    pub rows: usize,
    pub cols: usize,
    pub inner: usize,
    pub a: Operand<'a>,
    /// f32, bf16 or, where it is weights, in blocks.
    pub b: Operand<'a>,
    pub c: OperandMut<'a>,
    /// Whether the product is added to `c`, or overwrites it.
    pub accumulate: bool,
}

kernel! {
    /// `c[i, j] (+)= sum over k of a[i, k] b[k, j]`. Offsets and strides are in values and multiples of 4. Where `split_inner` is
    /// less than `inner`, `c` is a layer for each part of the k, `split_size` after the one before.
    pub struct Matmul in "matmul" of VARIANTS {
        /// `[rows, a_stride]`; where the layout transposes it `[inner, a_stride]`.
        read a,
        /// `[inner, b_stride]`, f32, bf16 or in blocks; where the layout transposes it `[cols, b_stride]`.
        read b,
        /// `[rows, c_stride]`
        write c,
        /// The bits of the largest magnitudes of the columns of `b`, and from `row_magnitudes` on of the rows of `a`; not read where
        /// the product is as precise as can be.
        read magnitudes,
        ;
        rows: u32,
        cols: u32,
        inner: u32,
        a_offset: u32,
        a_stride: u32,
        b_offset: u32,
        b_stride: u32,
        c_offset: u32,
        c_stride: u32,
        /// 1: add to `c`; 0: overwrite.
        accumulate: u32,
        /// How many k a layer sums up; a multiple of 16.
        split_inner: u32,
        /// From one layer's `c` to the next's.
        split_size: u32,
        row_magnitudes: u32,
        ;
        /// How `a` and `b` are stored.
        layout: Layout,
        /// What a GPU's workgroups compute; by the shape of the whole product.
        tile: Tile,
        precision: MatmulPrecision,
    }
}

/// How precise a product is, and the magnitudes that this needs.
#[derive(Clone, Copy)]
struct Scaling<'a> {
    precision: MatmulPrecision,
    magnitudes: &'a Tensor,
}

impl Product<'_> {
    /// Runs what computes the product, so precisely, once the magnitudes are known that this needs.
    fn run_scaled(mut self, device: &Device, precision: MatmulPrecision, run: impl FnOnce(&mut Self, Scaling)) {
        if precision == MatmulPrecision::Highest {
            let magnitudes = self.a.tensor;
            return run(&mut self, Scaling { precision, magnitudes });
        }
        let Product { layout, rows, cols, inner, .. } = self;
        let of_rows = Lines { matrix: self.a, rows, cols: inner, by_column: false };
        let of_cols = Lines { matrix: self.b, rows: inner, cols, by_column: true };
        device.with_magnitudes(|magnitudes| {
            let of_cols = if layout.transposes_b() { of_cols.transposed() } else { of_cols };
            let of_rows = if layout.transposes_a() { of_rows.transposed() } else { of_rows };
            MaxMagnitude::run(device, of_cols, magnitudes, 0, false);
            MaxMagnitude::run(device, of_rows, magnitudes, cols, false);
            run(&mut self, Scaling { precision, magnitudes });
        });
    }
}

impl Matmul<'_> {
    /// How many parts the k are split into.
    fn layers(&self) -> u32 {
        self.inner.div_ceil(self.split_inner.max(1)).max(1)
    }

    /// Computes a product, in as many dispatches as it needs.
    pub fn run(device: &Device, product: Product) {
        let tile = Tile::of(product.rows, product.cols);
        Self::run_in_tiles(device, product, tile);
    }

    /// As [`Matmul::run`], in tiles of one's own choice where the adapter computes tiles.
    pub fn run_in_tiles(device: &Device, product: Product, tile: Tile) {
        let Product { rows, cols, inner, .. } = product;
        product.run_scaled(device, tile.precision(device, rows + cols), |product, scaling| {
            for rows in tile.dispatches(device, rows, cols, inner) {
                device.run(Matmul::of_rows(product, rows, tile, scaling));
            }
        });
    }

    /// As [`Matmul::run`] where `c` is a whole tensor that is added to. Where the product has too few tiles for a GPU and many k,
    /// it is split over them: layers in `partial`, which are then added up in order.
    pub fn run_split(device: &Device, product: Product, partial: &mut Tensor) {
        let Product { layout, rows, cols, inner, a, b, c, accumulate } = product;
        assert!(accumulate && c.offset == 0 && c.stride == cols, "a split product is added to a whole tensor");
        let layers = if device.is_real_gpu() { layers(rows, cols, inner, partial.len()) } else { 1 };
        if layers == 1 {
            return Matmul::run(device, Product { layout, rows, cols, inner, a, b, c, accumulate });
        }
        let split_inner = inner.div_ceil(layers).next_multiple_of(DEPTH as usize);
        let first_layer = OperandMut::whole(&mut *partial, cols);
        let product = Product { layout, rows, cols, inner, a, b, c: first_layer, accumulate: false };
        let tile = Tile::of(rows, cols);
        product.run_scaled(device, tile.precision(device, rows + cols), |product, scaling| {
            device.run(Matmul {
                split_inner: word(split_inner),
                split_size: word(rows * cols),
                ..Matmul::of_rows(product, 0..rows, tile, scaling)
            });
        });
        ColumnSum::of_partial(device, partial, c.tensor, inner.div_ceil(split_inner), rows * cols);
    }
}

impl<'a> Matmul<'a> {
    /// Some rows of a product, whose k are not split.
    fn of_rows(product: &'a mut Product, rows: Range<usize>, tile: Tile, scaling: Scaling<'a>) -> Self {
        let Product { layout, cols, inner, a, b, c, accumulate, .. } = product;
        let before = if layout.transposes_a() { rows.start } else { rows.start * a.stride };
        Matmul {
            a: a.tensor,
            b: b.tensor,
            c: &mut *c.tensor,
            magnitudes: scaling.magnitudes,
            rows: word(rows.len()),
            cols: word(*cols),
            inner: word(*inner),
            a_offset: word(a.offset + before),
            a_stride: word(a.stride),
            b_offset: word(b.offset),
            b_stride: word(b.stride),
            c_offset: word(c.offset + rows.start * c.stride),
            c_stride: word(c.stride),
            accumulate: u32::from(*accumulate),
            split_inner: word(*inner),
            split_size: 0,
            row_magnitudes: word(*cols + rows.start),
            layout: *layout,
            tile,
            precision: scaling.precision,
        }
    }
}

/// Into how many parts the k of a product are split, by its shape and the room for their sums.
fn layers(rows: usize, cols: usize, inner: usize, room: usize) -> usize {
    const WORKGROUPS: usize = 256;
    const LEAST_INNER: usize = 256;
    let tiles = Tile::of(rows, cols).count(rows, cols) as usize;
    (WORKGROUPS / tiles).min(inner / LEAST_INNER).min(room / (rows * cols)).max(1)
}

/// A matrix as it is stored, to be checked.
struct Place<'a> {
    tensor: &'a Tensor,
    offset: u32,
    stride: u32,
    rows: u32,
    cols: u32,
}

impl Place<'_> {
    /// Checks that the tensor holds the matrix, and that its place suits vectors of four.
    fn check(&self) {
        let [offset, stride, rows, cols] = [self.offset, self.stride, self.rows, self.cols].map(|n| n as usize);
        let name = self.tensor.name();
        assert!([offset, stride, cols].iter().all(|n| n.is_multiple_of(4)), "matmul: {name} is not in groups of four");
        assert!(stride >= cols, "matmul: {name} has rows of {cols} every {stride}");
        if rows > 0 {
            let end = offset + (rows - 1) * stride + cols;
            assert!(self.tensor.len() >= end, "matmul: {name} holds {} elements, needs {end}", self.tensor.len());
        }
    }
}

impl Kernel for Matmul<'_> {
    fn check(&self) {
        let Self { rows, cols, inner, layout, .. } = *self;
        let (a_rows, a_cols) = if layout.transposes_a() { (inner, rows) } else { (rows, inner) };
        let (b_rows, b_cols) = if layout.transposes_b() { (cols, inner) } else { (inner, cols) };
        Place { tensor: self.a, offset: self.a_offset, stride: self.a_stride, rows: a_rows, cols: a_cols }.check();
        Place { tensor: self.b, offset: self.b_offset, stride: self.b_stride, rows: b_rows, cols: b_cols }.check();
        assert!(self.split_inner >= inner || self.split_inner.is_multiple_of(DEPTH), "matmul: parts are whole steps");
        let c_offset = self.c_offset + (self.layers().max(1) - 1) * self.split_size;
        Place { tensor: self.c, offset: c_offset, stride: self.c_stride, rows, cols }.check();
        if self.precision != MatmulPrecision::Highest {
            reaches::<Self>(self.magnitudes, self.row_magnitudes.max(cols) as usize + rows as usize);
        }
    }

    fn launch(&self, traits: Traits) -> Launch {
        let Self { rows, cols, layout, .. } = *self;
        let (dtype, layers) = (self.b.dtype(), self.layers());
        let few_rows = match layout {
            Layout::Nt if layers == 1 => TileText::of_few_rows(&VARIANTS, traits, dtype, self.tile, rows, cols),
            _ => None,
        };
        let text = few_rows.unwrap_or_else(|| TileText::of_tile(&VARIANTS, traits, dtype, self.tile, self.precision));
        let constants = vec![
            ("A_TRANSPOSED", f64::from(layout.transposes_a())),
            ("B_TRANSPOSED", f64::from(layout.transposes_b())),
        ];
        text.launch(rows, &[cols], layers, constants, cost(rows as usize, cols as usize, self.inner as usize))
    }

    fn twin<T: Real>(&mut self) {
        for layer in 0..self.layers() {
            self.multiply_layer::<T>(layer);
        }
    }
}

impl Matmul<'_> {
    /// The twin of one part of the k.
    fn multiply_layer<T: Real>(&mut self, layer: u32) {
        let first = layer * self.split_inner;
        let inner = self.split_inner.min(self.inner - first) as usize;
        let [rows, cols] = [self.rows, self.cols].map(|n| n as usize);
        let (layout, accumulate) = (self.layout, self.accumulate != 0);
        let a_first = if layout.transposes_a() { first * self.a_stride } else { first };
        let b_first = if layout.transposes_b() { first } else { first * self.b_stride };
        let a = &self.a.real::<T>()[(self.a_offset + a_first) as usize..];
        let a = Matrix { data: a, row_stride: self.a_stride as usize, col_stride: 1 };
        let a = if layout.transposes_a() { a.transposed() } else { a };
        let b_offset = (self.b_offset + b_first) as usize;
        let b = Stored { tensor: self.b, offset: b_offset, stride: self.b_stride as usize };
        let c = &mut self.c.real_mut::<T>()[(self.c_offset + layer * self.split_size) as usize..];
        let c = MatrixMut { data: c, rows, cols, row_stride: self.c_stride as usize };
        let first_row = self.row_magnitudes as usize;
        let halves = Halves::of(self.precision, self.magnitudes, first_row..first_row + rows, 0..cols);
        parallel_product(layout, c, a, b, inner, accumulate, halves);
    }
}

/// The twin of a product by a stored matrix, which the layout may transpose; `a` is as it is multiplied. `halves` says how operands
/// are rounded, where they are.
pub(super) fn parallel_product<T: Real>(
    layout: Layout,
    c: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Stored<'_>,
    inner: usize,
    accumulate: bool,
    halves: Option<Halves>,
) {
    if let Some(halves) = halves {
        return halves.multiply(c, a, b, layout.transposes_b(), inner, accumulate);
    }
    if layout == Layout::Nt && c.rows <= FEW_ROWS {
        return parallel_dots(c, a, b, inner, accumulate);
    }
    parallel_panels(c, a, b, layout.transposes_b(), inner, accumulate);
}
