//! A linear layer: `y = x W^T + b`, and what low-rank adapters add to it where it has them.

use anyhow::Result;

use super::Build;
use super::lora::{Lora, LowRank};
use super::parameter::Parameter;
use crate::device::{Device, Tensor};
use crate::kernels::{AddBias, ColumnSum, Layout, Matmul, Operand, OperandMut, Product};

/// `[out, in]` weights and, in some layers, a bias and adapters.
pub struct Linear {
    pub weight: Parameter,
    pub bias: Option<Parameter>,
    pub lora: Option<Lora>,
}

impl Linear {
    /// The layer with this name's `.weight` and `.bias`.
    ///
    /// # Errors
    /// Where a tensor is missing or has no room.
    pub fn load(build: &Build, name: &str, [outputs, inputs]: [usize; 2], has_bias: bool) -> Result<Self> {
        let weight = build.parameter(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = if has_bias { Some(build.parameter(&format!("{name}.bias"), &[outputs])?) } else { None };
        Ok(Self { weight, bias, lora: build.lora(name, [outputs, inputs])? })
    }

    /// `y = x W^T + b` for `rows` rows, and what the adapters add.
    pub fn forward(&self, device: &Device, x: &Tensor, y: &mut Tensor, low_rank: &mut LowRank, rows: usize) {
        self.weight.multiply(device, x, y, rows, false);
        if let Some(bias) = &self.bias {
            device.run(AddBias { bias: bias.vector(), y, rows: rows as u32, cols: self.weight.rows() as u32 });
        }
        if let Some(lora) = &self.lora {
            lora.forward(device, x, y, low_rank, rows);
        }
    }

    /// `dx = dy W`, or `dx += dy W`, and what comes back through the adapters.
    pub fn backward_input(
        &self,
        device: &Device,
        dy: &Tensor,
        dx: &mut Tensor,
        low_rank: &mut LowRank,
        rows: usize,
        accumulate: bool,
    ) {
        self.weight.multiply_backward_input(device, dy, dx, rows, accumulate);
        if let Some(lora) = &self.lora {
            lora.backward_input(device, dy, dx, low_rank, rows);
        }
    }

    /// `dW += dy^T x`, `db += sum of dy`, and the adapters' gradients, where they are trained.
    pub fn backward_weight(
        &mut self,
        device: &Device,
        x: &Tensor,
        dy: &Tensor,
        (low_rank, partial): (&mut LowRank, &mut Tensor),
        rows: usize,
    ) {
        self.weight.multiply_backward_weight(device, x, dy, rows);
        let outputs = self.weight.rows();
        if let Some(gradient) = self.bias.as_mut().and_then(Parameter::vector_gradient) {
            ColumnSum::in_two_steps(device, dy, partial, gradient, rows, outputs);
        }
        if let Some(lora) = &mut self.lora {
            lora.backward_weight(device, x, dy, low_rank, rows);
        }
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let lora = self.lora.iter_mut().flat_map(Lora::parameters_mut);
        std::iter::once(&mut self.weight).chain(&mut self.bias).chain(lora)
    }
}

/// The products of a matrix W `[out, in]`. Rows of activations are as long as the matrix is when it is filled up.
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
