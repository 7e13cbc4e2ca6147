//! A linear layer: `y = x W^T + b`.

use anyhow::Result;

use super::Build;
use super::parameter::Parameter;
use crate::device::{Device, Tensor};
use crate::kernels::{AddBias, ColumnSum, MatmulNn, MatmulNt, MatmulTn, Operand, OperandMut};

/// `[out, in]` weights and, in some layers, a bias.
pub struct Linear {
    pub weight: Parameter,
    pub bias: Option<Parameter>,
}

impl Linear {
    /// The layer with this name's `.weight` and `.bias`.
    ///
    /// # Errors
    /// Where a tensor is missing or has no room.
    pub fn load(build: &Build, name: &str, [outputs, inputs]: [usize; 2], has_bias: bool) -> Result<Self> {
        let weight = build.parameter(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = if has_bias { Some(build.parameter(&format!("{name}.bias"), &[outputs])?) } else { None };
        Ok(Self { weight, bias })
    }

    /// `y = x W^T + b` for `rows` rows.
    pub fn forward(&self, device: &Device, x: &Tensor, y: &mut Tensor, rows: usize) {
        let (outputs, inputs) = (self.weight.rows(), self.weight.cols());
        for shard in self.weight.shards() {
            let y = OperandMut::whole(y, outputs).from_column(shard.first_row);
            let w = Operand::whole(&shard.weight, inputs);
            MatmulNt::run(device, y, Operand::whole(x, inputs), w, [rows, shard.rows, inputs], false);
        }
        if let Some(bias) = &self.bias {
            device.run(AddBias { bias: bias.vector(), y, rows: rows as u32, cols: outputs as u32 });
        }
    }

    /// `dx = dy W`, or `dx += dy W`.
    pub fn backward_input(&self, device: &Device, dy: &Tensor, dx: &mut Tensor, rows: usize, accumulate: bool) {
        let (outputs, inputs) = (self.weight.rows(), self.weight.cols());
        for shard in self.weight.shards() {
            let dy = Operand::whole(dy, outputs).from_column(shard.first_row);
            let w = Operand::whole(&shard.weight, inputs);
            let dx = OperandMut::whole(dx, inputs);
            MatmulNn::run(device, dx, dy, w, [rows, inputs, shard.rows], accumulate || shard.first_row > 0);
        }
    }

    /// `dW += dy^T x`, `db += sum of dy`, where they are trained.
    pub fn backward_weight(&mut self, device: &Device, x: &Tensor, dy: &Tensor, partial: &mut Tensor, rows: usize) {
        let (outputs, inputs) = (self.weight.rows(), self.weight.cols());
        for shard in self.weight.shards_mut() {
            if let Some(gradient) = &mut shard.gradient {
                let dy = Operand::whole(dy, outputs).from_column(shard.first_row);
                let dw = OperandMut::whole(gradient, inputs);
                MatmulTn::run(device, dw, dy, Operand::whole(x, inputs), [shard.rows, inputs, rows], true);
            }
        }
        if let Some(gradient) = self.bias.as_mut().and_then(Parameter::vector_gradient) {
            ColumnSum::in_two_steps(device, dy, partial, gradient, rows, outputs);
        }
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        std::iter::once(&mut self.weight).chain(&mut self.bias)
    }
}
