//! What the three matrix products share: operands, variants, the cut into dispatches, the twin.

use std::borrow::Cow;

use rayon::prelude::*;

use super::variants::shared;
use crate::device::{DType, Matrix, MatrixMut, Real, Tensor};
use crate::gpu::{Cost, Launch, Traits, Variant};

const TILES: &str = include_str!("../../shaders/shared/matmul_tiles.wgsl");
const LANES: &str = include_str!("../../shaders/shared/matmul_lanes.wgsl");

/// A matrix inside a tensor: where it starts and how far it is from one row to the next, both in values and multiples
/// of 4.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub tensor: &'a Tensor,
    pub offset: usize,
    pub stride: usize,
}

impl<'a> Operand<'a> {
    /// The rows of `width` values that fill the tensor.
    pub fn whole(tensor: &'a Tensor, width: usize) -> Self {
        Self { tensor, offset: 0, stride: width }
    }

    /// The same rows from row `row` on.
    pub fn from_row(self, row: usize) -> Self {
        Self { offset: self.offset + row * self.stride, ..self }
    }

    /// The same rows from column `column` on.
    pub fn from_column(self, column: usize) -> Self {
        Self { offset: self.offset + column, ..self }
    }
}

/// As [`Operand`], to be written.
pub struct OperandMut<'a> {
    pub tensor: &'a mut Tensor,
    pub offset: usize,
    pub stride: usize,
}

impl<'a> OperandMut<'a> {
    /// The rows of `width` values that fill the tensor.
    pub fn whole(tensor: &'a mut Tensor, width: usize) -> Self {
        Self { tensor, offset: 0, stride: width }
    }

    /// The same rows from row `row` on.
    pub fn from_row(self, row: usize) -> Self {
        Self { offset: self.offset + row * self.stride, ..self }
    }

    /// The same rows from column `column` on.
    pub fn from_column(self, column: usize) -> Self {
        Self { offset: self.offset + column, ..self }
    }
}

/// The texts of a product whose right operand is a weight: for its type, and for GPUs or CPUs.
pub(super) const fn weight_variants(source: &'static str) -> [Variant; 4] {
    use shared::{WEIGHT_BF16, WEIGHT_F32};
    [
        Variant { name: "tiles, f32", source, includes: &[TILES, WEIGHT_F32], subgroups: false },
        Variant { name: "lanes, f32", source, includes: &[LANES, WEIGHT_F32], subgroups: true },
        Variant { name: "tiles, bf16", source, includes: &[TILES, WEIGHT_BF16], subgroups: false },
        Variant { name: "lanes, bf16", source, includes: &[LANES, WEIGHT_BF16], subgroups: true },
    ]
}

/// The texts of a product of two activations.
pub(super) const fn activation_variants(source: &'static str) -> [Variant; 2] {
    [
        Variant { name: "tiles", source, includes: &[TILES], subgroups: false },
        Variant { name: "lanes", source, includes: &[LANES], subgroups: true },
    ]
}

/// The lanes of `shared/matmul_lanes.wgsl`.
const SUBGROUP: u32 = 8;

/// The launch of the variant for `b`'s type and for the adapter.
pub(super) fn launch(
    variants: &'static [Variant],
    traits: Traits,
    b: &Tensor,
    [rows, cols, inner]: [u32; 3],
) -> Launch {
    let by_lanes = traits.software && traits.subgroup_size == Some(SUBGROUP);
    let variant = &variants[2 * usize::from(b.dtype() == DType::Bf16) + usize::from(by_lanes)];
    let cost = cost(rows as usize, cols as usize, inner as usize);
    if by_lanes {
        let workgroups = [cols.div_ceil(8 * SUBGROUP), rows.div_ceil(4 * SUBGROUP), 1];
        return Launch { variant, constants: Vec::new(), workgroups, cost };
    }
    // A workgroup of 128 x 128 reads half as much as one of 64 x 64, where there is work for enough of them.
    let tile: u32 = if rows >= 512 && cols >= 512 { 128 } else { 64 };
    let constants = [("TILE", tile), ("THREADS", tile * tile / 64), ("QUADS", tile / 4), ("TILE_WORDS", 8 * tile)];
    Launch {
        variant,
        constants: constants.map(|(name, value)| (name, f64::from(value))).to_vec(),
        workgroups: [cols.div_ceil(tile), rows.div_ceil(tile), 1],
        cost,
    }
}

fn cost(rows: usize, cols: usize, inner: usize) -> Cost {
    Cost { flops: 2.0 * (rows * cols) as f64 * inner as f64, bytes: 0.0 }
}

/// Calls `part(first_row, count)` for runs of rows of the product that are each short enough for one dispatch.
pub(super) fn for_row_runs(rows: usize, cols: usize, inner: usize, mut part: impl FnMut(usize, usize)) {
    const STEP: usize = 128;
    let run = STEP * cost(STEP, cols, inner).per_dispatch(rows.div_ceil(STEP));
    for first in (0..rows).step_by(run) {
        part(first, run.min(rows - first));
    }
}

/// Checks that `tensor` holds a matrix of `rows` x `cols` at this place, and that the place suits vectors of four.
pub(super) fn check(kernel: &str, tensor: &Tensor, (offset, stride): (u32, u32), rows: u32, cols: u32) {
    let (offset, stride, rows, cols) = (offset as usize, stride as usize, rows as usize, cols as usize);
    let name = tensor.name();
    assert!([offset, stride, cols].iter().all(|n| n.is_multiple_of(4)), "{kernel}: {name} is not in groups of four");
    assert!(stride >= cols, "{kernel}: {name} has rows of {cols} every {stride}");
    if rows > 0 {
        let end = offset + (rows - 1) * stride + cols;
        assert!(tensor.len() >= end, "{kernel}: {name} holds {} elements, needs {end}", tensor.len());
    }
}

/// The floating-point values of a weight from `offset` on, widened from bf16 where it is stored so.
pub(super) fn weight_values<T: Real>(tensor: &Tensor, offset: usize, len: usize) -> Cow<'_, [T]> {
    match tensor.dtype() {
        DType::Bf16 => {
            Cow::Owned(tensor.bf16s()[offset..offset + len].par_iter().map(|value| T::of(value.to_f64())).collect())
        }
        _ => Cow::Borrowed(&tensor.real::<T>()[offset..offset + len]),
    }
}

/// The most rows that are multiplied as dot products: a tile of decoded tokens. Beyond them a general product is faster.
pub const FEW_ROWS: usize = 128;

/// `c (+)= x w^T` for at most [`FEW_ROWS`] rows, over all threads. A row's result does not depend on the others.
pub(super) fn parallel_dots<T: Real>(
    c: MatrixMut<'_, T>,
    x: Matrix<'_, T>,
    (w, w_offset, w_stride): (&Tensor, usize, usize),
    inner: usize,
    accumulate: bool,
) {
    const BLOCK_COLS: usize = 64;
    let MatrixMut { data, rows, cols, row_stride } = c;
    let block = |first: usize| {
        let count = BLOCK_COLS.min(cols - first);
        let w = weight_values::<T>(w, w_offset + first * w_stride, (count - 1) * w_stride + inner);
        let mut products = vec![T::zero(); count * rows];
        T::dots(&mut products, x, Matrix { data: &w, row_stride: w_stride, col_stride: 1 }, inner, rows);
        products
    };
    let blocks: Vec<Vec<T>> = (0..cols.div_ceil(BLOCK_COLS)).into_par_iter().map(|i| block(i * BLOCK_COLS)).collect();
    data.par_chunks_mut(row_stride).take(rows).enumerate().for_each(|(row, c)| {
        let products = blocks.iter().flat_map(|block| block[row..].iter().step_by(rows));
        for (c, &product) in c[..cols].iter_mut().zip(products) {
            *c = if accumulate { *c + product } else { product };
        }
    });
}

/// `c (+)= a b` over all threads. The cut into blocks of rows does not depend on their number, so that the result
/// does not either.
pub(super) fn parallel_gemm<T: Real>(
    c: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    inner: usize,
    accumulate: bool,
) {
    const BLOCK_ROWS: usize = 128;
    let MatrixMut { data, rows, cols, row_stride } = c;
    if rows == 0 {
        return;
    }
    let data = &mut data[..(rows - 1) * row_stride + cols];
    data.par_chunks_mut(BLOCK_ROWS * row_stride).enumerate().for_each(|(block, data)| {
        let first = block * BLOCK_ROWS;
        let c = MatrixMut { data, rows: BLOCK_ROWS.min(rows - first), cols, row_stride };
        let a = Matrix { data: &a.data[first * a.row_stride..], ..a };
        T::gemm(c, a, b, inner, accumulate);
    });
}
