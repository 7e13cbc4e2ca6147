//! The matrix product of every linear layer, forward and backward, of f32 activations by weights or by each other.

use super::operand::{Operand, OperandMut};
use super::products::{FEW_ROWS, Stored, parallel_dots, parallel_gemm};
use super::variants::shared;
use crate::device::{DType, Device, Kernel, Matrix, MatrixMut, Real, Tensor, kernel, word};
use crate::gpu::{Cost, Launch, Traits, Variant};

const TILES: &str = include_str!("../../shaders/shared/matmul_tiles.wgsl");
const LANES: &str = include_str!("../../shaders/shared/matmul_lanes.wgsl");

/// For the type of `b`, and for GPUs or CPUs.
static VARIANTS: [Variant; 4] = {
    use shared::{WEIGHT_BF16, WEIGHT_F32};
    let source = include_str!("../../shaders/matmul.wgsl");
    [
        Variant { name: "tiles, f32", source, includes: &[TILES, WEIGHT_F32], subgroups: false },
        Variant { name: "lanes, f32", source, includes: &[LANES, WEIGHT_F32], subgroups: true },
        Variant { name: "tiles, bf16", source, includes: &[TILES, WEIGHT_BF16], subgroups: false },
        Variant { name: "lanes, bf16", source, includes: &[LANES, WEIGHT_BF16], subgroups: true },
    ]
};

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
    /// f32 or bf16.
    pub b: Operand<'a>,
    pub c: OperandMut<'a>,
    /// Whether the product is added to `c`, or overwrites it.
    pub accumulate: bool,
}

kernel! {
    /// `c[i, j] (+)= sum over k of a[i, k] b[k, j]`. Offsets and strides are in values and multiples of 4.
    pub struct Matmul in "matmul" of VARIANTS {
        /// `[rows, a_stride]`; where the layout transposes it `[inner, a_stride]`.
        read a,
        /// `[inner, b_stride]`, f32 or bf16; where the layout transposes it `[cols, b_stride]`.
        read b,
        /// `[rows, c_stride]`
        write c,
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
        ;
        /// How `a` and `b` are stored.
        layout: Layout,
    }
}

impl Matmul<'_> {
    /// Computes a product, in as many dispatches as it needs.
    pub fn run(device: &Device, product: Product) {
        const STEP: usize = 128;
        let Product { layout, rows, cols, inner, a, b, c, accumulate } = product;
        let run = STEP * cost(STEP, cols, inner).per_dispatch(rows.div_ceil(STEP));
        for first in (0..rows).step_by(run) {
            let before = if layout.transposes_a() { first } else { first * a.stride };
            device.run(Matmul {
                a: a.tensor,
                b: b.tensor,
                c: &mut *c.tensor,
                rows: word(run.min(rows - first)),
                cols: word(cols),
                inner: word(inner),
                a_offset: word(a.offset + before),
                a_stride: word(a.stride),
                b_offset: word(b.offset),
                b_stride: word(b.stride),
                c_offset: word(c.offset + first * c.stride),
                c_stride: word(c.stride),
                accumulate: accumulate.into(),
                layout,
            });
        }
    }
}

fn cost(rows: usize, cols: usize, inner: usize) -> Cost {
    Cost { flops: 2.0 * (rows * cols) as f64 * inner as f64, bytes: 0.0 }
}

/// The lanes of `shared/matmul_lanes.wgsl`.
const SUBGROUP: u32 = 8;

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
        Place { tensor: self.c, offset: self.c_offset, stride: self.c_stride, rows, cols }.check();
    }

    fn launch(&self, traits: Traits) -> Launch {
        let Self { rows, cols, layout, .. } = *self;
        let by_lanes = traits.software && traits.subgroup_size == Some(SUBGROUP);
        let variant = &VARIANTS[2 * usize::from(self.b.dtype() == DType::Bf16) + usize::from(by_lanes)];
        let mut constants = vec![
            ("A_TRANSPOSED", f64::from(layout.transposes_a())),
            ("B_TRANSPOSED", f64::from(layout.transposes_b())),
        ];
        // A workgroup of 128 x 128 reads half as much as one of 64 x 64, where there is work for enough of them.
        let tile: u32 = if rows >= 512 && cols >= 512 { 128 } else { 64 };
        let [width, height] = if by_lanes { [8 * SUBGROUP, 4 * SUBGROUP] } else { [tile, tile] };
        if !by_lanes {
            let sizes = [("TILE", tile), ("THREADS", tile * tile / 64), ("QUADS", tile / 4), ("TILE_WORDS", 8 * tile)];
            constants.extend(sizes.map(|(name, value)| (name, f64::from(value))));
        }
        Launch {
            variant,
            constants,
            workgroups: [cols.div_ceil(width), rows.div_ceil(height), 1],
            cost: cost(rows as usize, cols as usize, self.inner as usize),
        }
    }

    fn twin<T: Real>(&mut self) {
        let [rows, cols, inner] = [self.rows, self.cols, self.inner].map(|n| n as usize);
        let (layout, accumulate) = (self.layout, self.accumulate != 0);
        let a = &self.a.real::<T>()[self.a_offset as usize..];
        let a = Matrix { data: a, row_stride: self.a_stride as usize, col_stride: 1 };
        let a = if layout.transposes_a() { a.transposed() } else { a };
        let b = Stored { tensor: self.b, offset: self.b_offset as usize, stride: self.b_stride as usize };
        let c = &mut self.c.real_mut::<T>()[self.c_offset as usize..];
        let c = MatrixMut { data: c, rows, cols, row_stride: self.c_stride as usize };
        if layout == Layout::Nt && rows <= FEW_ROWS {
            return parallel_dots(c, a, b, inner, accumulate);
        }
        let (b_rows, b_cols) = if layout.transposes_b() { (cols, inner) } else { (inner, cols) };
        let values = b.values::<T>(0, b_rows, b_cols);
        let b = Matrix { data: &values, row_stride: b.stride, col_stride: 1 };
        let b = if layout.transposes_b() { b.transposed() } else { b };
        parallel_gemm(c, a, b, inner, accumulate);
    }
}
