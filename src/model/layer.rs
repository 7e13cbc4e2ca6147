//! A decoder layer: `h = x + attention(norm(x))`, `x' = h + mlp(norm(h))`.

use std::sync::Arc;

use anyhow::Result;

use super::attention::{Attention, AttentionActivations, AttentionGradients};
use super::build::Build;
use super::mlp::{Mlp, MlpActivations, MlpGradients, MlpScratch};
use super::norm::{Norm, NormActivations};
use super::parameter::Parameter;
use super::pass::Pass;
use super::stream::Stream;
use crate::device::Tensor;

/// The layer's weights.
pub struct Layer {
    index: usize,
    input_norm: Norm,
    attention: Attention,
    post_attention_norm: Norm,
    mlp: Mlp,
}

/// What the forward pass leaves of a layer, beside the residual stream.
pub struct LayerActivations {
    attention_input: NormActivations,
    attention: AttentionActivations,
    mlp_input: NormActivations,
    mlp: MlpActivations,
}

/// What both passes work in; shared by all layers.
pub struct LayerScratch {
    /// `[tokens, hidden]`: what the last block adds to the residual stream.
    pub delta: Tensor,
    /// `[tokens, intermediate]`
    act: Tensor,
}

/// Gradients inside a layer; shared by all layers.
pub struct LayerGradients {
    /// `[tokens, hidden]`: gradient of a norm's output.
    pub dnormed: Tensor,
    attention: AttentionGradients,
    mlp: MlpGradients,
}

impl LayerActivations {
    /// Room for `tokens`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, name: &str, tokens: usize) -> Result<Self> {
        Ok(Self {
            attention_input: NormActivations::new(build, &format!("{name}/input_norm"), tokens)?,
            attention: AttentionActivations::new(build, &format!("{name}/attention"), tokens)?,
            mlp_input: NormActivations::new(build, &format!("{name}/post_attention_norm"), tokens)?,
            mlp: MlpActivations::new(build, &format!("{name}/mlp"), tokens)?,
        })
    }
}

impl LayerScratch {
    /// Room for `tokens`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize) -> Result<Self> {
        let tensor = |name: &str, cols| build.scratch(name, &[tokens, cols]);
        Ok(Self {
            delta: tensor("delta", build.config.hidden_size)?,
            act: tensor("act", build.config.intermediate_size)?,
        })
    }
}

impl LayerGradients {
    /// Room for `tokens`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize) -> Result<Self> {
        Ok(Self {
            dnormed: build.scratch("dnormed", &[tokens, build.config.hidden_size])?,
            attention: AttentionGradients::new(build, tokens)?,
            mlp: MlpGradients::new(build, tokens)?,
        })
    }
}

impl Layer {
    /// Layer `index` of the decoder; `rope` is `[positions, head_dim]`.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape, or has no room.
    pub fn load(build: &Build, index: usize, rope: &Arc<Tensor>) -> Result<Self> {
        let name = format!("model.layers.{index}");
        let norm = |part: &str| Norm::load(build, &format!("{name}.{part}"));
        Ok(Self {
            index,
            input_norm: norm("input_layernorm")?,
            attention: Attention::load(build, index, &format!("{name}.self_attn"), rope)?,
            post_attention_norm: norm("post_attention_layernorm")?,
            mlp: Mlp::load(build, &format!("{name}.mlp"))?,
        })
    }

    /// Where the attention block's norm reads the stream.
    fn attention_site(&self) -> usize {
        2 * self.index
    }

    /// Where the MLP's norm reads the stream.
    fn mlp_site(&self) -> usize {
        2 * self.index + 1
    }

    /// From the stream and `scratch.delta` (what the layer before adds to it) to the stream and the `scratch.delta` that
    /// this one adds.
    pub fn forward(
        &self,
        pass: &mut Pass,
        stream: &mut Stream,
        saved: &mut LayerActivations,
        scratch: &mut LayerScratch,
    ) {
        let LayerActivations { attention_input, attention, mlp_input, mlp } = saved;
        let LayerScratch { delta, act } = scratch;
        stream.norm(pass, self.attention_site(), &self.input_norm, delta, attention_input);
        self.attention.forward(pass, &attention_input.y, attention, delta);
        stream.norm(pass, self.mlp_site(), &self.post_attention_norm, delta, mlp_input);
        self.mlp.forward(pass, &mlp_input.y, mlp, act, delta);
    }

    /// From `x`, the stream before the layer, to the one after it, in place, of tokens that attend to their sequences in a cache;
    /// the others are scratch.
    pub fn decode(&self, pass: &mut Pass, x: &mut Tensor, saved: &mut LayerActivations, scratch: &mut LayerScratch) {
        let LayerActivations { attention_input, attention, mlp_input, mlp } = saved;
        self.attention.decode(pass, &self.input_norm, x, attention_input, attention);
        self.mlp.decode(pass, &self.post_attention_norm, x, mlp_input, mlp, &mut scratch.act);
    }

    /// The forward pass once more, from the layer's input in the stream: all that [`Layer::backward`] reads.
    pub fn recompute(
        &self,
        pass: &mut Pass,
        stream: &mut Stream,
        saved: &mut LayerActivations,
        scratch: &mut LayerScratch,
    ) {
        let LayerActivations { attention_input, attention, mlp_input, mlp } = saved;
        let delta = &mut scratch.delta;
        stream.norm_again(pass, self.attention_site(), &self.input_norm, attention_input);
        self.attention.forward(pass, &attention_input.y, attention, delta);
        stream.norm(pass, self.mlp_site(), &self.post_attention_norm, delta, mlp_input);
        self.mlp.project(pass, &mlp_input.y, mlp);
    }

    /// From the gradient of the stream after the layer to the one before it, in place: a residual block `x + f(n(x))`
    /// adds what comes back through `f` and `n` to what comes back past them.
    pub fn backward(
        &mut self,
        pass: &mut Pass,
        stream: &Stream,
        saved: &LayerActivations,
        scratch: &mut LayerScratch,
        gradients: &mut LayerGradients,
        dstream: &mut Tensor,
    ) {
        let LayerActivations { attention_input, attention, mlp_input, mlp } = saved;
        let LayerGradients { dnormed, attention: dattention, mlp: dmlp } = gradients;
        let mlp_scratch = MlpScratch { act: &mut scratch.act, gradients: dmlp };
        self.mlp.backward(pass, &mlp_input.y, mlp, mlp_scratch, dstream, dnormed);
        let h = stream.at(self.mlp_site());
        self.post_attention_norm.backward_add(pass, h, &mlp_input.rstd, dnormed, dstream);
        self.attention.backward(pass, &attention_input.y, attention, dattention, dstream, dnormed);
        let x = stream.at(self.attention_site());
        self.input_norm.backward_add(pass, x, &attention_input.rstd, dnormed, dstream);
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let attention = self.input_norm.parameters_mut().chain(self.attention.parameters_mut());
        attention.chain(self.post_attention_norm.parameters_mut()).chain(self.mlp.parameters_mut())
    }
}
