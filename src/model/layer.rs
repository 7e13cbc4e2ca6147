//! A decoder layer: `h = x + attention(norm(x))`, `x' = h + mlp(norm(h))`; Gemma 3 normalises what is added, too.

use std::mem::swap;
use std::sync::Arc;

use anyhow::Result;

use super::attention::{Attention, AttentionActivations, AttentionBackward, AttentionGradients};
use super::build::Build;
use super::mlp::{Mlp, MlpActivations};
use super::mlp_room::{MlpRoom, MlpScratch};
use super::norm::{Norm, NormActivations};
use super::output_norm::{OutputNorm, OutputNormActivations, OutputNormGradient};
use super::parameter::Parameter;
use super::pass::Pass;
use super::stream::Stream;
use crate::device::{DType, Tensor};

/// The layer's weights.
pub struct Layer {
    index: usize,
    attention_norm: Norm,
    attention: Attention,
    attention_output_norm: OutputNorm,
    mlp_norm: Norm,
    mlp: Mlp,
    mlp_output_norm: OutputNorm,
}

/// What the forward pass leaves of a layer, beside the residual stream.
pub struct LayerActivations {
    attention_input: NormActivations,
    attention: AttentionActivations,
    attention_output: OutputNormActivations,
    mlp_input: NormActivations,
    mlp: MlpActivations,
    mlp_output: OutputNormActivations,
}

/// What both passes work in; shared by all layers.
pub struct LayerScratch {
    /// `[tokens, hidden]`: what the last block adds to the residual stream.
    pub delta: Tensor,
    mlp: MlpScratch,
}

/// Gradients inside a layer; shared by all layers.
pub struct LayerGradients {
    /// `[tokens, hidden]`: gradient of a norm's output.
    pub dnormed: Tensor,
    doutput: OutputNormGradient,
    attention: AttentionGradients,
}

impl LayerActivations {
    /// Room for a batch; what has several values a head or a row is stored as `dtype`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, name: &str, room: MlpRoom, dtype: DType) -> Result<Self> {
        let tokens = room.tokens();
        let name = |part| format!("{name}/{part}");
        Ok(Self {
            attention_input: NormActivations::new(build, &name("input_norm"), tokens, dtype)?,
            attention: AttentionActivations::new(build, &name("attention"), tokens, dtype)?,
            attention_output: OutputNormActivations::new(build, &name("attention_output"), tokens, dtype)?,
            mlp_input: NormActivations::new(build, &name("post_attention_norm"), tokens, dtype)?,
            mlp: MlpActivations::new(build, &name("mlp"), room, dtype)?,
            mlp_output: OutputNormActivations::new(build, &name("mlp_output"), tokens, dtype)?,
        })
    }

    /// Keeps what a forward pass has left `at_hand`, rounded; what is not to be rounded changes places.
    pub fn keep(&mut self, pass: &Pass, at_hand: &mut Self) {
        for (kept, computed) in self.tensors_mut().zip(at_hand.tensors_mut()) {
            match kept.dtype() {
                DType::Bf16 => pass.round(computed, kept),
                _ => swap(kept, computed),
            }
        }
    }

    /// Brings back `at_hand` what [`LayerActivations::keep`] has kept.
    pub fn restore(&mut self, pass: &Pass, at_hand: &mut Self) {
        for (kept, restored) in self.tensors_mut().zip(at_hand.tensors_mut()) {
            match kept.dtype() {
                DType::Bf16 => pass.widen(kept, restored),
                _ => swap(kept, restored),
            }
        }
    }

    /// All tensors.
    fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let Self { attention_input, attention, attention_output, mlp_input, mlp, mlp_output } = self;
        let attention =
            attention_input.tensors_mut().chain(attention.tensors_mut()).chain(attention_output.tensors_mut());
        attention.chain(mlp_input.tensors_mut()).chain(mlp.tensors_mut()).chain(mlp_output.tensors_mut())
    }
}

impl LayerScratch {
    /// Room for a batch.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, room: MlpRoom) -> Result<Self> {
        let delta = build.scratch("delta", &[room.tokens(), build.config.hidden_size])?;
        Ok(Self { delta, mlp: MlpScratch::new(build, room)? })
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
            doutput: OutputNormGradient::new(build, tokens)?,
            attention: AttentionGradients::new(build, tokens)?,
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
        let output_norm = |part: &str| OutputNorm::load(build, &format!("{name}.{part}"));
        let has_output_norms = build.config.output_norms;
        Ok(Self {
            index,
            attention_norm: norm("input_layernorm")?,
            attention: Attention::load(build, index, &format!("{name}.self_attn"), rope)?,
            attention_output_norm: output_norm("post_attention_layernorm")?,
            mlp_norm: norm(if has_output_norms { "pre_feedforward_layernorm" } else { "post_attention_layernorm" })?,
            mlp: Mlp::load(build, &format!("{name}.mlp"))?,
            mlp_output_norm: output_norm("post_feedforward_layernorm")?,
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
        let site = self.attention_site();
        stream.norm(pass, site, &self.attention_norm, &scratch.delta, saved.attention_input.output());
        self.attend(pass, stream, saved, &mut scratch.delta);
        self.transform(pass, saved, scratch);
    }

    /// From what attention reads to what the MLP reads.
    fn attend(&self, pass: &mut Pass, stream: &mut Stream, saved: &mut LayerActivations, delta: &mut Tensor) {
        let LayerActivations { attention_input, attention, attention_output, mlp_input, .. } = saved;
        self.attention_output_norm.forward(pass, attention_output, delta, |pass, y| {
            self.attention.forward(pass, &attention_input.y, attention, y);
        });
        stream.norm(pass, self.mlp_site(), &self.mlp_norm, delta, mlp_input.output());
    }

    /// From what the MLP reads to the `scratch.delta` that the layer adds.
    fn transform(&self, pass: &mut Pass, saved: &mut LayerActivations, scratch: &mut LayerScratch) {
        let LayerActivations { mlp_input, mlp, mlp_output, .. } = saved;
        let LayerScratch { delta, mlp: scratch } = scratch;
        self.mlp_output_norm.forward(pass, mlp_output, delta, |pass, y| {
            self.mlp.forward(pass, &mlp_input.y, mlp, scratch, y);
        });
    }

    /// From `x`, the stream before the layer, to the one after it, in place, of tokens that attend to their sequences in a cache;
    /// the others are scratch.
    pub fn decode(&self, pass: &mut Pass, x: &mut Tensor, saved: &mut LayerActivations, scratch: &mut LayerScratch) {
        let LayerActivations { attention_input, attention, attention_output, mlp_input, mlp, mlp_output } = saved;
        let act = &mut scratch.mlp.act;
        self.attention.attend_newest(pass, &self.attention_norm, x, attention_input, attention);
        self.attention_output_norm.forward_add(pass, attention_output, x, |pass, y, accumulate| {
            self.attention.output(pass, attention, y, accumulate);
        });
        self.mlp.activate(pass, &self.mlp_norm, x, mlp_input, mlp, act);
        self.mlp_output_norm.forward_add(pass, mlp_output, x, |pass, y, accumulate| {
            self.mlp.output(pass, act, y, accumulate);
        });
    }

    /// The forward pass once more, from the layer's input in the stream: all that [`Layer::backward`] reads.
    pub fn recompute(
        &self,
        pass: &mut Pass,
        stream: &mut Stream,
        saved: &mut LayerActivations,
        scratch: &mut LayerScratch,
    ) {
        stream.norm_again(pass, self.attention_site(), &self.attention_norm, saved.attention_input.output());
        self.attend(pass, stream, saved, &mut scratch.delta);
        if self.mlp_output_norm.is_there() {
            self.transform(pass, saved, scratch);
        } else {
            self.mlp.recompute(pass, &saved.mlp_input.y, &mut saved.mlp, &scratch.mlp);
        }
    }

    /// Brings back what the norms read of the stream where it was kept rounded.
    pub fn restore(&self, pass: &Pass, stream: &mut Stream) {
        stream.restore(pass, self.attention_site());
        stream.restore(pass, self.mlp_site());
    }

    /// From the gradient of the stream after the layer to the one before it, in place: a residual block `x + f(n(x))`
    /// adds what comes back through `f` and `n` to what comes back past them. Some of `saved` is gone then.
    pub fn backward(
        &mut self,
        pass: &mut Pass,
        stream: &Stream,
        saved: &mut LayerActivations,
        scratch: &mut LayerScratch,
        gradients: &mut LayerGradients,
        dstream: &mut Tensor,
    ) {
        let LayerActivations { attention_input, attention, attention_output, mlp_input, mlp, mlp_output } = saved;
        let LayerGradients { dnormed, doutput, attention: dattention } = gradients;
        let dy = self.mlp_output_norm.backward(pass, mlp_output, doutput, dstream);
        self.mlp.backward(pass, &mlp_input.y, mlp, &mut scratch.mlp, dy, dnormed);
        let h = stream.at(self.mlp_site());
        self.mlp_norm.backward_add(pass, h, &mlp_input.rstd, dnormed, dstream);
        let dy = self.attention_output_norm.backward(pass, attention_output, doutput, dstream);
        let [dq, dk, dv] = mlp.freed(&mut scratch.mlp);
        let gradients = AttentionBackward { gradients: dattention, dq, dk, dv };
        self.attention.backward(pass, &attention_input.y, attention, gradients, dy, dnormed);
        let x = stream.at(self.attention_site());
        self.attention_norm.backward_add(pass, x, &attention_input.rstd, dnormed, dstream);
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let attention = self.attention_norm.parameters_mut().chain(self.attention.parameters_mut());
        let attention = attention.chain(self.attention_output_norm.parameters_mut());
        let mlp = self.mlp_norm.parameters_mut().chain(self.mlp.parameters_mut());
        attention.chain(mlp).chain(self.mlp_output_norm.parameters_mut())
    }
}
