//! The matrix product of a layer's output: `y = x W^T`.

use super::matmul::{
    FEW_ROWS, Operand, OperandMut, check, for_row_runs, launch, parallel_dots, parallel_gemm, weight_values,
    weight_variants,
};
use crate::device::{Device, Kernel, Matrix, MatrixMut, Real, kernel};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; 4] = weight_variants(include_str!("../../shaders/matmul_nt.wgsl"));

kernel! {
    /// `c[i, j] (+)= sum over k of a[i, k] b[j, k]`. Offsets and strides are in values and multiples of 4, as are `cols` and `inner`.
    pub struct MatmulNt in "matmul_nt" of VARIANTS {
        /// `[rows, a_stride]`
        read a,
        /// `[cols, b_stride]`, f32 or bf16
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
    }
}

impl MatmulNt<'_> {
    /// The product of `rows` x `inner` by `inner` x `cols`, in as many dispatches as it needs.
    pub fn run(
        device: &Device,
        c: OperandMut,
        a: Operand,
        b: Operand,
        [rows, cols, inner]: [usize; 3],
        accumulate: bool,
    ) {
        for_row_runs(rows, cols, inner, |first, rows| {
            device.run(MatmulNt {
                a: a.tensor,
                b: b.tensor,
                c: &mut *c.tensor,
                rows: rows as u32,
                cols: cols as u32,
                inner: inner as u32,
                a_offset: (a.offset + first * a.stride) as u32,
                a_stride: a.stride as u32,
                b_offset: b.offset as u32,
                b_stride: b.stride as u32,
                c_offset: (c.offset + first * c.stride) as u32,
                c_stride: c.stride as u32,
                accumulate: accumulate.into(),
            });
        });
    }
}

impl Kernel for MatmulNt<'_> {
    fn check(&self) {
        check("matmul_nt", self.a, (self.a_offset, self.a_stride), self.rows, self.inner);
        check("matmul_nt", self.b, (self.b_offset, self.b_stride), self.cols, self.inner);
        check("matmul_nt", self.c, (self.c_offset, self.c_stride), self.rows, self.cols);
    }

    fn launch(&self, traits: Traits) -> Launch {
        launch(&VARIANTS, traits, self.b, [self.rows, self.cols, self.inner])
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols, inner) = (self.rows as usize, self.cols as usize, self.inner as usize);
        let (a_stride, b_stride, row_stride) = (self.a_stride as usize, self.b_stride as usize, self.c_stride as usize);
        let a = &self.a.real::<T>()[self.a_offset as usize..];
        let a = Matrix { data: a, row_stride: a_stride, col_stride: 1 };
        let c = &mut self.c.real_mut::<T>()[self.c_offset as usize..];
        let c = MatrixMut { data: c, rows, cols, row_stride };
        if rows <= FEW_ROWS {
            let w = (self.b, self.b_offset as usize, b_stride);
            return parallel_dots(c, a, w, inner, self.accumulate != 0);
        }
        let b = weight_values::<T>(self.b, self.b_offset as usize, (cols - 1) * b_stride + inner);
        let b = Matrix { data: &b, row_stride: 1, col_stride: b_stride };
        parallel_gemm(c, a, b, inner, self.accumulate != 0);
    }
}
