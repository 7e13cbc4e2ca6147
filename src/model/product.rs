//! The products of a weight matrix W `[out, in]`, shard by shard: with activations, with their gradients, and for its own.

use super::parameter::Parameter;
use crate::device::{Device, Tensor};
use crate::kernels::{Layout, Matmul, Operand, OperandMut, Product};

/// Rows of activations are as long as the matrix is when it is filled up.
impl Parameter {
    /// `y = x W^T`, or `y += x W^T`, for `rows` rows.
    pub(super) fn multiply(&self, device: &Device, x: &Tensor, y: &mut Tensor, rows: usize, accumulate: bool) {
        let (outputs, inputs) = (self.rows().next_multiple_of(4), self.stride());
        for shard in self.shards() {
            let product = Product {
                layout: Layout::Nt,
                rows,
                cols: shard.rows.next_multiple_of(4),
                inner: inputs,
                a: Operand::whole(x, inputs),
                b: Operand::whole(&shard.weight, inputs),
                c: OperandMut::whole(y, outputs).from_column(shard.first_row),
                accumulate,
            };
            Matmul::run(device, product);
        }
    }

    /// `dx = dy W`, or `dx += dy W`, for `rows` rows.
    pub(super) fn multiply_backward_input(
        &self,
        device: &Device,
        dy: &Tensor,
        dx: &mut Tensor,
        rows: usize,
        accumulate: bool,
    ) {
        let (outputs, inputs) = (self.rows().next_multiple_of(4), self.stride());
        for shard in self.shards() {
            let product = Product {
                layout: Layout::Nn,
                rows,
                cols: inputs,
                inner: shard.rows.next_multiple_of(4),
                a: Operand::whole(dy, outputs).from_column(shard.first_row),
                b: Operand::whole(&shard.weight, inputs),
                c: OperandMut::whole(dx, inputs),
                accumulate: accumulate || shard.first_row > 0,
            };
            Matmul::run(device, product);
        }
    }

    /// `dW += dy^T x` of `rows` rows, where it is trained.
    pub(super) fn multiply_backward_weight(&mut self, device: &Device, x: &Tensor, dy: &Tensor, rows: usize) {
        let (outputs, inputs) = (self.rows().next_multiple_of(4), self.stride());
        for shard in self.shards_mut() {
            if let Some(gradient) = &mut shard.gradient {
                let product = Product {
                    layout: Layout::Tn,
                    rows: shard.rows.next_multiple_of(4),
                    cols: inputs,
                    inner: rows,
                    a: Operand::whole(dy, outputs).from_column(shard.first_row),
                    b: Operand::whole(x, inputs),
                    c: OperandMut::whole(gradient, inputs),
                    accumulate: true,
                };
                Matmul::run(device, product);
            }
        }
    }
}
