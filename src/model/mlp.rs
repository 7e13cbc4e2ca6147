//! The gated MLP: `y = W_down (f(W_gate x) * (W_up x))`.

use anyhow::Result;

use super::build::Build;
use super::linear::Linear;
use super::linear_group::LinearGroup;
use super::mlp_room::{Block, MlpRoom, MlpScratch};
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
    /// `[rows, intermediate]`
    gate: Tensor,
    /// `[rows, intermediate]`
    up: Tensor,
}

impl MlpActivations {
    /// Stored as `dtype`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, name: &str, room: MlpRoom, dtype: DType) -> Result<Self> {
        let tensor = |part: &str| build.kept(&format!("{name}/{part}"), &room.shape(), dtype);
        Ok(Self { gate: tensor("gate")?, up: tensor("up")? })
    }

    /// All tensors.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        [&mut self.gate, &mut self.up].into_iter()
    }

    /// What is free after a backward pass: three tensors with room for `[tokens, heads, head_dim]`.
    pub fn freed<'a>(&'a mut self, scratch: &'a mut MlpScratch) -> [&'a mut Tensor; 3] {
        [&mut self.gate, &mut self.up, &mut scratch.act]
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

    /// `y = mlp(x)`, both `[tokens, hidden]`. By blocks nothing is kept.
    pub fn forward(
        &self,
        pass: &mut Pass,
        x: &Tensor,
        saved: &mut MlpActivations,
        scratch: &mut MlpScratch,
        y: &mut Tensor,
    ) {
        let MlpScratch { act, block } = scratch;
        let mut forward = |pass: &mut Pass, x: &Tensor, y: &mut Tensor| {
            self.project(pass, x, saved);
            self.gate(pass, saved, act);
            self.output(pass, act, y, false);
        };
        let Some(Block { rows, x: x_rows, y: y_rows, .. }) = block else { return forward(pass, x, y) };
        pass.by_blocks(*rows, |pass| {
            pass.take_rows(x, x_rows);
            forward(pass, x_rows, y_rows);
            pass.put_rows(y_rows, y);
        });
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
        let (device, rows) = (pass.device, pass.rows.len());
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

    /// What the backward pass reads of the forward pass of `x`. By blocks that is left to it.
    pub fn recompute(&self, pass: &mut Pass, x: &Tensor, saved: &mut MlpActivations, scratch: &MlpScratch) {
        if scratch.block.is_none() {
            self.project(pass, x, saved);
        }
    }

    fn project(&self, pass: &mut Pass, x: &Tensor, saved: &mut MlpActivations) {
        self.gate_up.forward(pass, x, [&mut saved.gate, &mut saved.up]);
    }

    /// `dx` of `dy`, and the weights' gradients. Gradients take the places of what was kept.
    pub fn backward(
        &mut self,
        pass: &mut Pass,
        x: &Tensor,
        saved: &mut MlpActivations,
        scratch: &mut MlpScratch,
        dy: &Tensor,
        dx: &mut Tensor,
    ) {
        let MlpScratch { act, block } = scratch;
        let Some(Block { rows, x: x_rows, y: dy_rows, dx: dx_rows }) = block else {
            return self.backward_rows(pass, x, saved, act, dy, dx);
        };
        pass.by_blocks(*rows, |pass| {
            pass.take_rows(x, x_rows);
            pass.take_rows(dy, dy_rows);
            self.project(pass, x_rows, saved);
            self.backward_rows(pass, x_rows, saved, act, dy_rows, dx_rows);
            pass.put_rows(dx_rows, dx);
        });
    }

    /// The backward pass of the pass's rows: the forward pass, last line first.
    fn backward_rows(
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
        (pass.rows.len() * self.intermediate_size) as u32
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.gate_up.parameters_mut().chain(self.down_proj.parameters_mut())
    }
}
