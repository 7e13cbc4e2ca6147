//! RMSNorm on what a block adds to the residual stream, in models that have one there (Gemma 3).

use anyhow::Result;

use super::build::Build;
use super::norm::Norm;
use super::parameter::Parameter;
use super::pass::Pass;
use crate::device::{DType, Tensor};

/// The norm, where the model has it.
pub struct OutputNorm(Option<Norm>);

/// What the forward pass keeps, where there is a norm.
pub struct OutputNormActivations(Option<Normed>);

struct Normed {
    /// `[tokens, hidden]`: what the block computed.
    x: Tensor,
    /// `[tokens]`
    rstd: Tensor,
}

/// The gradient of what a block computed, where there is a norm; shared by all blocks.
pub struct OutputNormGradient(Option<Tensor>);

impl OutputNormActivations {
    /// Room for `tokens`, whose values are stored as `dtype`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, name: &str, tokens: usize, dtype: DType) -> Result<Self> {
        let normed = || -> Result<Normed> {
            let x = build.kept(&format!("{name}/x"), &[tokens, build.config.hidden_size], dtype)?;
            Ok(Normed { x, rstd: build.tensor(&format!("{name}/rstd"), &[tokens])? })
        };
        Ok(Self(build.config.output_norms.then(normed).transpose()?))
    }

    /// All tensors.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.0.iter_mut().flat_map(|Normed { x, rstd }| [x, rstd])
    }
}

impl OutputNormGradient {
    /// Room for `tokens`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize) -> Result<Self> {
        let tensor = || build.scratch("doutput", &[tokens, build.config.hidden_size]);
        Ok(Self(build.config.output_norms.then(tensor).transpose()?))
    }
}

impl OutputNorm {
    /// The norm with this name's `.weight`.
    ///
    /// # Errors
    /// Where the tensor is missing or has no room.
    pub fn load(build: &Build, name: &str) -> Result<Self> {
        Ok(Self(build.config.output_norms.then(|| Norm::load(build, name)).transpose()?))
    }

    /// Whether the model has it.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// `y = norm(block)` of what `block` writes, or that itself.
    pub fn forward(
        &self,
        pass: &mut Pass,
        saved: &mut OutputNormActivations,
        y: &mut Tensor,
        block: impl FnOnce(&mut Pass, &mut Tensor),
    ) {
        match (&self.0, &mut saved.0) {
            (Some(norm), Some(Normed { x, rstd })) => {
                block(pass, x);
                norm.forward(pass, x, y, rstd);
            }
            _ => block(pass, y),
        }
    }

    /// `y += norm(block)`. `block` adds to what it is given where it is told to.
    pub fn forward_add(
        &self,
        pass: &mut Pass,
        saved: &mut OutputNormActivations,
        y: &mut Tensor,
        block: impl FnOnce(&mut Pass, &mut Tensor, bool),
    ) {
        match (&self.0, &mut saved.0) {
            (Some(norm), Some(Normed { x, rstd })) => {
                block(pass, x, false);
                norm.forward_add(pass, x, y, rstd);
            }
            _ => block(pass, y, true),
        }
    }

    /// The gradient of what the block computed, of `dy`; and the weight's, where it is trained.
    pub fn backward<'a>(
        &mut self,
        pass: &mut Pass,
        saved: &OutputNormActivations,
        gradient: &'a mut OutputNormGradient,
        dy: &'a Tensor,
    ) -> &'a Tensor {
        match (&mut self.0, &saved.0, &mut gradient.0) {
            (Some(norm), Some(Normed { x, rstd }), Some(dx)) => {
                norm.backward(pass, x, rstd, dy, dx);
                dx
            }
            _ => dy,
        }
    }

    /// The weight, where there is one.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.0.iter_mut().flat_map(Norm::parameters_mut)
    }
}
