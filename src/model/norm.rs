//! RMSNorm.

use anyhow::Result;

use super::Build;
use super::parameter::Parameter;
use crate::device::{Device, Tensor};
use crate::kernels::{AddRmsNorm, BLOCK_ROWS, ColumnSum, RmsNorm, RmsNormBackward, RmsNormBackwardWeight};

/// A scale, and how it is applied.
pub struct Norm {
    weight: Parameter,
    epsilon: f32,
    offset: f32,
}

/// What a norm keeps for its backward pass, beside its input.
pub struct NormActivations {
    /// `[rows, cols]`: the output.
    pub y: Tensor,
    /// `[rows]`
    pub rstd: Tensor,
}

impl Norm {
    /// The norm with this name's `.weight`, over rows of `cols`.
    ///
    /// # Errors
    /// Where the tensor is missing or has no room.
    pub fn load(build: &Build, name: &str, cols: usize) -> Result<Self> {
        let weight = build.parameter(&format!("{name}.weight"), &[cols])?;
        Ok(Self { weight, epsilon: build.config.rms_norm_eps, offset: build.config.norm_offset })
    }

    /// `y = norm(x)` for `rows` rows.
    pub fn forward(&self, device: &Device, x: &Tensor, y: &mut Tensor, rstd: &mut Tensor, rows: usize) {
        let (rows, cols) = (rows as u32, self.weight.cols() as u32);
        let (weight, epsilon, offset) = (self.weight.vector(), self.epsilon, self.offset);
        device.run(RmsNorm { x, weight, y, rstd, rows, cols, epsilon, offset });
    }

    /// `h = x + delta`, `y = norm(h)`.
    pub fn forward_after_add(
        &self,
        device: &Device,
        (x, delta): (&Tensor, &Tensor),
        h: &mut Tensor,
        saved: &mut NormActivations,
        rows: usize,
    ) {
        let (rows, cols) = (rows as u32, self.weight.cols() as u32);
        let (weight, epsilon, offset) = (self.weight.vector(), self.epsilon, self.offset);
        let (y, rstd) = (&mut saved.y, &mut saved.rstd);
        device.run(AddRmsNorm { x, delta, weight, h, y, rstd, rows, cols, epsilon, offset });
    }

    /// `dx (+)= dL/dx` for the norm's input `x`, and `dweight`, where it is trained.
    pub fn backward(
        &mut self,
        device: &Device,
        dy: &Tensor,
        (x, rstd): (&Tensor, &Tensor),
        (dx, accumulate): (&mut Tensor, bool),
        partial: &mut Tensor,
        rows: usize,
    ) {
        let cols = self.weight.cols();
        let (weight, offset) = (self.weight.vector(), self.offset);
        let (row_count, col_count) = (rows as u32, cols as u32);
        let accumulate = accumulate.into();
        device.run(RmsNormBackward { dy, x, weight, rstd, dx, rows: row_count, cols: col_count, offset, accumulate });
        if let Some(gradient) = self.weight.vector_gradient() {
            let block_rows = BLOCK_ROWS as u32;
            device.run(RmsNormBackwardWeight { dy, x, rstd, partial, rows: row_count, cols: col_count, block_rows });
            ColumnSum::of_partial(device, partial, gradient, rows.div_ceil(BLOCK_ROWS), cols);
        }
    }

    /// The weight.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        std::iter::once(&mut self.weight)
    }
}
