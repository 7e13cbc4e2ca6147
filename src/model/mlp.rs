//! The gated MLP: `y = W_down (f(W_gate x) * (W_up x))`.

use anyhow::Result;

use super::build::Build;
use super::linear::Linear;
use super::linear_group::LinearGroup;
use super::norm::{Norm, NormActivations};
use super::parameter::Parameter;
use super::pass::Pass;
use super::product::{group_suits_norm, multiply_gated_normed};
use crate::device::{DType, Tensor};
use crate::kernels::{Activation, GatedMlp, GatedMlpBackward};

/// The block's weights.
pub struct Mlp {
    /// Gate and up.
    gate_up: LinearGroup<2>,
    down_proj: Linear,
    intermediate_size: usize,
    activation: Activation,
}

/// What the forward pass keeps.
pub struct MlpActivations {
    /// `[tokens, intermediate]`
    gate: Tensor,
    /// `[tokens, intermediate]`
    up: Tensor,
}

impl MlpActivations {
    /// Room for `tokens`, stored as `dtype`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, name: &str, tokens: usize, dtype: DType) -> Result<Self> {
        let shape = [tokens, build.config.intermediate_size];
        let tensor = |part: &str| build.kept(&format!("{name}/{part}"), &shape, dtype);
        Ok(Self { gate: tensor("gate")?, up: tensor("up")? })
    }

    /// All tensors.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        [&mut self.gate, &mut self.up].into_iter()
    }
}

impl Mlp {
    /// The block whose layers' names begin with this one.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape, or has no room.
    pub fn load(build: &Build, name: &str) -> Result<Self> {
        let config = build.config;
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let linear = |part: &str, shape| Linear::load(build, &format!("{name}.{part}"), shape, config.mlp_bias);
        Ok(Self {
            gate_up: LinearGroup::new([
                linear("gate_proj", [intermediate, hidden])?,
                linear("up_proj", [intermediate, hidden])?,
            ]),
            down_proj: linear("down_proj", [hidden, intermediate])?,
            intermediate_size: intermediate,
            activation: config.activation,
        })
    }

    /// `y = mlp(x)`, both `[tokens, hidden]`; `act`, `[tokens, intermediate]`, is not kept.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, saved: &mut MlpActivations, act: &mut Tensor, y: &mut Tensor) {
        self.project(pass, x, saved);
        self.gate(pass, saved, act);
        self.output(pass, act, y, false);
    }

    /// `y = W_down act` `[tokens, hidden]`, or `y += W_down act`.
    pub fn output(&self, pass: &mut Pass, act: &Tensor, y: &mut Tensor, accumulate: bool) {
        self.down_proj.forward(pass, act, y, accumulate);
    }

    /// `act = f(W_gate n) * (W_up n)` with `n = norm(x)`, of `x` `[tokens, hidden]`; `normed` and `saved` are scratch.
    pub fn activate(
        &self,
        pass: &mut Pass,
        norm: &Norm,
        x: &Tensor,
        normed: &mut NormActivations,
        saved: &mut MlpActivations,
        act: &mut Tensor,
    ) {
        let layers = self.gate_up.layers();
        let weights = layers.each_ref().map(Linear::weight);
        let (device, rows) = (pass.device, pass.batch.tokens);
        if layers.iter().all(Linear::is_bare) && group_suits_norm(device, weights, rows) {
            return multiply_gated_normed(device, norm.scale(), weights, self.activation, x, act, rows);
        }
        self.gate_up.forward_normed(pass, norm, x, normed, [&mut saved.gate, &mut saved.up]);
        self.gate(pass, saved, act);
    }

    fn gate(&self, pass: &Pass, MlpActivations { gate, up }: &MlpActivations, act: &mut Tensor) {
        let (count, activation) = (self.count(pass), self.activation.index());
        pass.device.run(GatedMlp { gate, up, act, count, activation });
    }

    /// What the backward pass reads of the forward pass of `x`.
    pub fn project(&self, pass: &mut Pass, x: &Tensor, saved: &mut MlpActivations) {
        self.gate_up.forward(pass, x, [&mut saved.gate, &mut saved.up]);
    }

    /// `dx` of `dy`, and the weights' gradients: the forward pass, last line first. Gradients take the places of what was kept;
    /// `act`, `[tokens, intermediate]`, is scratch.
    pub fn backward(
        &mut self,
        pass: &mut Pass,
        x: &Tensor,
        saved: &mut MlpActivations,
        act: &mut Tensor,
        dy: &Tensor,
        dx: &mut Tensor,
    ) {
        let MlpActivations { gate, up } = saved;
        let (device, count, activation) = (pass.device, self.count(pass), self.activation.index());
        let down_proj = self.down_proj.backward_input(pass, dy, act);
        device.run(GatedMlpBackward { gate: &mut *gate, up: &mut *up, dact: &mut *act, count, activation });
        down_proj.finish(act);
        self.gate_up.backward(pass, x, [gate, up], dx);
    }

    fn count(&self, pass: &Pass) -> u32 {
        (pass.batch.tokens * self.intermediate_size) as u32
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.gate_up.parameters_mut().chain(self.down_proj.parameters_mut())
    }
}
