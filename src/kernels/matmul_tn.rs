//! The matrix product of a layer's weight gradient: `dW += dy^T x`.

use super::matmul::{Operand, OperandMut, activation_variants, check, for_row_runs, launch, parallel_gemm};
use crate::device::{Device, Kernel, Matrix, MatrixMut, Real, kernel};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = activation_variants(include_str!("../../shaders/matmul_tn.wgsl"));

kernel! {
    /// `c[i, j] (+)= sum over k of a[k, i] b[k, j]`. Offsets and strides are in values and multiples of 4, as are `rows` and `cols`.
    pub struct MatmulTn in "matmul_tn" of VARIANTS {
        /// `[inner, a_stride]`
        read a,
        /// `[inner, b_stride]`
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

impl MatmulTn<'_> {
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
            device.run(MatmulTn {
                a: a.tensor,
                b: b.tensor,
                c: &mut *c.tensor,
                rows: rows as u32,
                cols: cols as u32,
                inner: inner as u32,
                a_offset: (a.offset + first) as u32,
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

impl Kernel for MatmulTn<'_> {
    fn check(&self) {
        check("matmul_tn", self.a, (self.a_offset, self.a_stride), self.inner, self.rows);
        check("matmul_tn", self.b, (self.b_offset, self.b_stride), self.inner, self.cols);
        check("matmul_tn", self.c, (self.c_offset, self.c_stride), self.rows, self.cols);
    }

    fn launch(&self, traits: Traits) -> Launch {
        launch(&VARIANTS, traits, self.b, [self.rows, self.cols, self.inner])
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols, inner) = (self.rows as usize, self.cols as usize, self.inner as usize);
        let (a_stride, b_stride, row_stride) = (self.a_stride as usize, self.b_stride as usize, self.c_stride as usize);
        let a = &self.a.real::<T>()[self.a_offset as usize..];
        let a = Matrix { data: a, row_stride: 1, col_stride: a_stride };
        let b = &self.b.real::<T>()[self.b_offset as usize..];
        let b = Matrix { data: b, row_stride: b_stride, col_stride: 1 };
        let c = &mut self.c.real_mut::<T>()[self.c_offset as usize..];
        let c = MatrixMut { data: c, rows, cols, row_stride };
        parallel_gemm(c, a, b, inner, self.accumulate != 0);
    }
}
