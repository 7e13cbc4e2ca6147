//! The gated MLP: `y = W_down (f(W_gate x) * (W_up x))`.

use anyhow::Result;

use super::linear::Linear;
use super::lora::LowRank;
use super::parameter::Parameter;
use super::{Build, Pass};
use crate::device::Tensor;
use crate::kernels::{Activation, GatedMlp, GatedMlpBackward};

/// The block's weights.
pub struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
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

/// What the backward pass works in; shared by all layers.
pub struct MlpScratch {
    /// `[tokens, intermediate]`
    dact: Tensor,
    /// `[tokens, intermediate]`
    dgate: Tensor,
    /// `[tokens, intermediate]`
    dup: Tensor,
}

impl MlpActivations {
    pub(super) fn new(build: &Build, name: &str, tokens: usize) -> Result<Self> {
        let shape = [tokens, build.config.intermediate_size];
        let tensor = |part: &str| build.tensor(&format!("{name}/{part}"), &shape);
        Ok(Self { gate: tensor("gate")?, up: tensor("up")? })
    }
}

impl MlpScratch {
    pub(super) fn new(build: &Build, tokens: usize) -> Result<Self> {
        let shape = [tokens, build.config.intermediate_size];
        let tensor = |name: &str| build.scratch(name, &shape);
        Ok(Self { dact: tensor("dact")?, dgate: tensor("dgate")?, dup: tensor("dup")? })
    }
}

impl Mlp {
    pub(super) fn load(build: &Build, name: &str) -> Result<Self> {
        let config = build.config;
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let linear = |part: &str, shape| Linear::load(build, &format!("{name}.{part}"), shape, config.mlp_bias);
        Ok(Self {
            gate_proj: linear("gate_proj", [intermediate, hidden])?,
            up_proj: linear("up_proj", [intermediate, hidden])?,
            down_proj: linear("down_proj", [hidden, intermediate])?,
            intermediate_size: intermediate,
            activation: config.activation,
        })
    }

    /// `y = mlp(x)`, both `[tokens, hidden]`; `act` is scratch of `[tokens, intermediate]`.
    pub fn forward(
        &self,
        pass: &Pass,
        x: &Tensor,
        saved: &mut MlpActivations,
        (act, low_rank): (&mut Tensor, &mut LowRank),
        y: &mut Tensor,
    ) {
        self.project(pass, x, saved, low_rank);
        let (device, tokens) = (pass.device, pass.batch.tokens);
        let MlpActivations { gate, up } = saved;
        device.run(GatedMlp { gate, up, act, count: self.count(tokens), activation: self.activation.index() });
        self.down_proj.forward(device, act, y, low_rank, tokens);
    }

    /// What the backward pass reads of the forward pass of `x`.
    pub fn project(&self, pass: &Pass, x: &Tensor, saved: &mut MlpActivations, low_rank: &mut LowRank) {
        let (device, tokens) = (pass.device, pass.batch.tokens);
        self.gate_proj.forward(device, x, &mut saved.gate, low_rank, tokens);
        self.up_proj.forward(device, x, &mut saved.up, low_rank, tokens);
    }

    /// `dx` of `dy`, and the weights' gradients: the forward pass, last line first.
    pub fn backward(
        &mut self,
        pass: &Pass,
        x: &Tensor,
        saved: &MlpActivations,
        dy: &Tensor,
        (scratch, act, low_rank, partial): (&mut MlpScratch, &mut Tensor, &mut LowRank, &mut Tensor),
        dx: &mut Tensor,
    ) {
        let (device, tokens) = (pass.device, pass.batch.tokens);
        let MlpActivations { gate, up } = saved;
        let MlpScratch { dact, dgate, dup } = scratch;
        let (count, activation) = (self.count(tokens), self.activation.index());
        self.down_proj.backward_input(device, dy, dact, low_rank, tokens, false);
        device.run(GatedMlpBackward { gate, up, dact, dgate, dup, act, count, activation });
        self.down_proj.backward_weight(device, act, dy, (low_rank, partial), tokens);
        self.up_proj.backward_input(device, dup, dx, low_rank, tokens, false);
        self.up_proj.backward_weight(device, x, dup, (low_rank, partial), tokens);
        self.gate_proj.backward_input(device, dgate, dx, low_rank, tokens, true);
        self.gate_proj.backward_weight(device, x, dgate, (low_rank, partial), tokens);
    }

    fn count(&self, tokens: usize) -> u32 {
        (tokens * self.intermediate_size) as u32
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let linears = [&mut self.gate_proj, &mut self.up_proj, &mut self.down_proj];
        linears.into_iter().flat_map(Linear::parameters_mut)
    }
}
