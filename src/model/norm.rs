//! RMSNorm.

use anyhow::Result;

use super::build::Build;
use super::parameter::Parameter;
use super::pass::Pass;
use crate::device::{DType, Tensor};
use crate::kernels::{AddRmsNorm, BLOCK_ROWS, ColumnSum, NormScale, RmsNorm, RmsNormBackward, RmsNormBackwardWeight};

/// A scale, and how it is applied.
pub struct Norm {
    /// `[cols]`
    weight: Parameter,
    /// Rows of `cols` that a token has: one, or one a head.
    rows_per_token: usize,
    epsilon: f32,
    offset: f32,
}

/// What a norm keeps for its backward pass, beside its input.
pub struct NormActivations {
    /// `[tokens, hidden]`: the output.
    pub y: Tensor,
    /// `[tokens]`
    pub rstd: Tensor,
}

/// Where a norm writes what [`NormActivations`] are.
pub struct NormOutput<'a> {
    pub y: &'a mut Tensor,
    pub rstd: &'a mut Tensor,
}

impl NormActivations {
    /// Room for a norm of the hidden states of `tokens`, which are stored as `dtype`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, name: &str, tokens: usize, dtype: DType) -> Result<Self> {
        let y = build.kept(&format!("{name}/y"), &[tokens, build.config.hidden_size], dtype)?;
        Ok(Self { y, rstd: build.tensor(&format!("{name}/rstd"), &[tokens])? })
    }

    /// To be written.
    pub fn output(&mut self) -> NormOutput<'_> {
        NormOutput { y: &mut self.y, rstd: &mut self.rstd }
    }

    /// All tensors.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        [&mut self.y, &mut self.rstd].into_iter()
    }
}

impl Norm {
    /// The norm with this name's `.weight`, over each token's hidden state.
    ///
    /// # Errors
    /// Where the tensor is missing or has no room.
    pub fn load(build: &Build, name: &str) -> Result<Self> {
        Self::of_rows(build, name, 1, build.config.hidden_size)
    }

    /// The norm with this name's `.weight`, over each of the `heads` that a token has.
    ///
    /// # Errors
    /// Where the tensor is missing or has no room.
    pub fn load_for_heads(build: &Build, name: &str, heads: usize) -> Result<Self> {
        Self::of_rows(build, name, heads, build.config.heads.head_dim)
    }

    fn of_rows(build: &Build, name: &str, rows_per_token: usize, cols: usize) -> Result<Self> {
        let weight = build.parameter(&format!("{name}.weight"), &[cols])?;
        Ok(Self { weight, rows_per_token, epsilon: build.config.rms_norm_eps, offset: build.config.norm_offset })
    }

    /// The scale, for a kernel that normalises what it reads.
    pub(super) fn scale(&self) -> NormScale<'_> {
        NormScale { weight: self.weight.vector(), epsilon: self.epsilon, offset: self.offset }
    }

    fn rows(&self, pass: &Pass) -> usize {
        pass.batch.tokens * self.rows_per_token
    }

    /// `y = norm(x)`, both `[rows, cols]`; `rstd` is `[rows]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor, y: &mut Tensor, rstd: &mut Tensor) {
        self.normalise(pass, x, y, rstd, false);
    }

    /// As [`Norm::forward`], but `y += norm(x)`.
    pub fn forward_add(&self, pass: &Pass, x: &Tensor, y: &mut Tensor, rstd: &mut Tensor) {
        self.normalise(pass, x, y, rstd, true);
    }

    fn normalise(&self, pass: &Pass, x: &Tensor, y: &mut Tensor, rstd: &mut Tensor, accumulate: bool) {
        let (rows, cols) = (self.rows(pass) as u32, self.weight.cols() as u32);
        let (weight, epsilon, offset) = (self.weight.vector(), self.epsilon, self.offset);
        pass.device.run(RmsNorm { x, weight, y, rstd, rows, cols, epsilon, offset, accumulate: accumulate.into() });
    }

    /// `h = x + delta`, or `h = x` where nothing is added; `y = norm(h)`. All `[rows, cols]`.
    pub fn forward_after_add(
        &self,
        pass: &Pass,
        x: &Tensor,
        delta: Option<&Tensor>,
        h: &mut Tensor,
        output: NormOutput,
    ) {
        let (rows, cols) = (self.rows(pass) as u32, self.weight.cols() as u32);
        let (weight, epsilon, offset) = (self.weight.vector(), self.epsilon, self.offset);
        let NormOutput { y, rstd } = output;
        // What is not added is not read, but bound.
        let (add, delta) = (delta.is_some().into(), delta.unwrap_or(x));
        pass.device.run(AddRmsNorm { x, delta, weight, h, y, rstd, rows, cols, epsilon, offset, add });
    }

    /// `dx = dL/dx` for the norm's input `x`, and `dweight`, where it is trained.
    pub fn backward(&mut self, pass: &mut Pass, x: &Tensor, rstd: &Tensor, dy: &Tensor, dx: &mut Tensor) {
        self.backward_input(pass, x, rstd, dy, dx, false);
        self.backward_weight(pass, x, rstd, dy);
    }

    /// As [`Norm::backward`], but `dx += dL/dx`.
    pub fn backward_add(&mut self, pass: &mut Pass, x: &Tensor, rstd: &Tensor, dy: &Tensor, dx: &mut Tensor) {
        self.backward_input(pass, x, rstd, dy, dx, true);
        self.backward_weight(pass, x, rstd, dy);
    }

    fn backward_input(&self, pass: &Pass, x: &Tensor, rstd: &Tensor, dy: &Tensor, dx: &mut Tensor, accumulate: bool) {
        let (rows, cols) = (self.rows(pass) as u32, self.weight.cols() as u32);
        let (weight, offset, accumulate) = (self.weight.vector(), self.offset, accumulate.into());
        pass.device.run(RmsNormBackward { dy, x, weight, rstd, dx, rows, cols, offset, accumulate });
    }

    fn backward_weight(&mut self, pass: &mut Pass, x: &Tensor, rstd: &Tensor, dy: &Tensor) {
        let (device, rows, cols) = (pass.device, self.rows(pass), self.weight.cols());
        let Some(gradient) = self.weight.vector_gradient() else { return };
        let partial = pass.scratch.partial();
        device.run(RmsNormBackwardWeight {
            dy,
            x,
            rstd,
            partial: &mut *partial,
            rows: rows as u32,
            cols: cols as u32,
            block_rows: BLOCK_ROWS as u32,
        });
        ColumnSum::of_partial(device, partial, gradient, rows.div_ceil(BLOCK_ROWS), cols);
    }

    /// The weight.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        std::iter::once(&mut self.weight)
    }
}
