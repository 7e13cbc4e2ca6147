//! A decoder layer: `h = x + attention(norm(x))`, `x' = h + mlp(norm(h))`.

use anyhow::Result;

use super::attention::{Attention, AttentionActivations, AttentionScratch};
use super::cache::LayerCache;
use super::decoder::Keep;
use super::lora::LowRank;
use super::mlp::{Mlp, MlpActivations, MlpScratch};
use super::norm::{Norm, NormActivations};
use super::parameter::Parameter;
use super::{Build, Pass};
use crate::device::{Device, Tensor};
use crate::kernels::BLOCK_ROWS;

/// The layer's weights.
pub struct Layer {
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

/// What the forward pass works in; shared by all layers.
pub struct ForwardScratch {
    /// `[tokens, hidden]`: what the last block adds to the residual stream.
    pub(super) delta: Tensor,
    /// `[tokens, intermediate]`
    act: Tensor,
    low_rank: LowRank,
}

/// What the backward pass works in; shared by all layers.
pub struct BackwardScratch {
    /// `[tokens, hidden]`: gradient of a norm's output.
    pub(super) dnormed: Tensor,
    attention: AttentionScratch,
    mlp: MlpScratch,
    /// Partial sums over blocks of rows, of the widest layer.
    pub(super) partial: Tensor,
}

/// The residual stream before each norm: two norms a layer, which are sites `2 layer` and `2 layer + 1`, and the last one.
pub struct Stream {
    tensors: Vec<Tensor>,
    keep: Keep,
}

impl Stream {
    pub(super) fn new(build: &Build, tokens: usize, keep: Keep) -> Result<Self> {
        let layers = build.config.num_hidden_layers;
        let count = match keep {
            Keep::Nothing => 2,
            Keep::LayerInputs => layers + 2,
            Keep::Everything => 2 * layers + 1,
        };
        let tensor = |place| build.activation(&format!("stream/{place}"), &[tokens, build.config.hidden_size]);
        Ok(Self { tensors: (0..count).map(tensor).collect::<Result<_>>()?, keep })
    }

    /// The tensor of a site. Those that are not kept take turns.
    fn place(&self, site: usize) -> usize {
        match self.keep {
            Keep::Nothing => site % 2,
            Keep::LayerInputs if site.is_multiple_of(2) => site / 2,
            Keep::LayerInputs => self.tensors.len() - 1,
            Keep::Everything => site,
        }
    }

    /// The stream before the first norm: the embedded tokens.
    pub(super) fn first(&mut self) -> &mut Tensor {
        &mut self.tensors[0]
    }

    /// The stream before norm `site`, as the forward pass kept it or [`Layer::recompute`] has it again.
    ///
    /// # Panics
    /// Where it was made for a forward pass alone.
    pub(super) fn at(&self, site: usize) -> &Tensor {
        assert_ne!(self.keep, Keep::Nothing, "a stream for a forward pass alone");
        &self.tensors[self.place(site)]
    }

    /// Norm `site` of the stream, after `delta` was added to it (the first has nothing to add).
    pub(super) fn norm(
        &mut self,
        device: &Device,
        site: usize,
        norm: &Norm,
        delta: &Tensor,
        saved: &mut NormActivations,
        rows: usize,
    ) {
        if site == 0 {
            return norm.forward(device, &self.tensors[0], &mut saved.y, &mut saved.rstd, rows);
        }
        self.add_norm(device, [site - 1, site], norm, delta, saved, rows);
    }

    /// Norm `site` once more, of a site that is kept. Zeros are added to it: another kernel than that of the forward pass
    /// might round otherwise.
    fn norm_again(
        &mut self,
        device: &Device,
        site: usize,
        norm: &Norm,
        delta: &mut Tensor,
        saved: &mut NormActivations,
        rows: usize,
    ) {
        if site == 0 {
            return norm.forward(device, &self.tensors[0], &mut saved.y, &mut saved.rstd, rows);
        }
        delta.clear();
        self.add_norm(device, [site, site + 1], norm, delta, saved, rows);
    }

    /// The stream at one site and `delta` to its neighbour, and the norm of that.
    fn add_norm(
        &mut self,
        device: &Device,
        sites: [usize; 2],
        norm: &Norm,
        delta: &Tensor,
        saved: &mut NormActivations,
        rows: usize,
    ) {
        let places = sites.map(|site| self.place(site));
        let [x, h] = self.tensors.get_disjoint_mut(places).unwrap_or_else(|_| unreachable!("neighbours differ"));
        norm.forward_after_add(device, (x, delta), h, saved, rows);
    }
}

impl NormActivations {
    pub(super) fn new(build: &Build, name: &str, tokens: usize) -> Result<Self> {
        let y = build.tensor(&format!("{name}/y"), &[tokens, build.config.hidden_size])?;
        Ok(Self { y, rstd: build.tensor(&format!("{name}/rstd"), &[tokens])? })
    }
}

impl LayerActivations {
    pub(super) fn new(build: &Build, name: &str, tokens: usize) -> Result<Self> {
        Ok(Self {
            attention_input: NormActivations::new(build, &format!("{name}/input_norm"), tokens)?,
            attention: AttentionActivations::new(build, &format!("{name}/attention"), tokens)?,
            mlp_input: NormActivations::new(build, &format!("{name}/post_attention_norm"), tokens)?,
            mlp: MlpActivations::new(build, &format!("{name}/mlp"), tokens)?,
        })
    }
}

impl ForwardScratch {
    pub(super) fn new(build: &Build, tokens: usize) -> Result<Self> {
        let tensor = |name: &str, cols| build.scratch(name, &[tokens, cols]);
        Ok(Self {
            delta: tensor("delta", build.config.hidden_size)?,
            act: tensor("act", build.config.intermediate_size)?,
            low_rank: LowRank::new(build, tokens)?,
        })
    }
}

impl BackwardScratch {
    pub(super) fn new(build: &Build, tokens: usize) -> Result<Self> {
        let config = build.config;
        let q_size = config.heads.heads * config.heads.head_dim;
        let widest = config.hidden_size.max(config.intermediate_size).max(q_size);
        // A head norm sums over tokens * heads rows of head_dim: never more values than tokens rows of the widest.
        let blocks = (tokens.div_ceil(BLOCK_ROWS) + 1) * widest;
        Ok(Self {
            dnormed: build.scratch("dnormed", &[tokens, config.hidden_size])?,
            attention: AttentionScratch::new(build, tokens)?,
            mlp: MlpScratch::new(build, tokens)?,
            partial: build.scratch("partial", &[blocks])?,
        })
    }
}

impl Layer {
    pub(super) fn load(build: &Build, layer: usize) -> Result<Self> {
        let name = format!("model.layers.{layer}");
        let norm = |part: &str| Norm::load(build, &format!("{name}.{part}"), build.config.hidden_size);
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            attention: Attention::load(build, &format!("{name}.self_attn"))?,
            post_attention_norm: norm("post_attention_layernorm")?,
            mlp: Mlp::load(build, &format!("{name}.mlp"))?,
        })
    }

    /// Layer `index`, from the stream and `scratch.delta` (what the layer before adds to it) to the stream and the
    /// `scratch.delta` that this one adds.
    pub fn forward(
        &self,
        pass: &Pass,
        index: usize,
        stream: &mut Stream,
        (saved, cache): (&mut LayerActivations, Option<&mut LayerCache>),
        scratch: &mut ForwardScratch,
    ) {
        let (device, tokens) = (pass.device, pass.batch.tokens);
        let ForwardScratch { delta, act, low_rank } = scratch;
        stream.norm(device, 2 * index, &self.input_norm, delta, &mut saved.attention_input, tokens);
        self.attention.forward(pass, &saved.attention_input.y, &mut saved.attention, cache, low_rank, delta);
        stream.norm(device, 2 * index + 1, &self.post_attention_norm, delta, &mut saved.mlp_input, tokens);
        self.mlp.forward(pass, &saved.mlp_input.y, &mut saved.mlp, (act, low_rank), delta);
    }

    /// The forward pass of layer `index` once more, from its input in the stream: all that [`Layer::backward`] reads.
    pub fn recompute(
        &self,
        pass: &Pass,
        index: usize,
        stream: &mut Stream,
        saved: &mut LayerActivations,
        scratch: &mut ForwardScratch,
    ) {
        let (device, tokens) = (pass.device, pass.batch.tokens);
        let ForwardScratch { delta, low_rank, .. } = scratch;
        stream.norm_again(device, 2 * index, &self.input_norm, delta, &mut saved.attention_input, tokens);
        self.attention.forward(pass, &saved.attention_input.y, &mut saved.attention, None, low_rank, delta);
        stream.norm(device, 2 * index + 1, &self.post_attention_norm, delta, &mut saved.mlp_input, tokens);
        self.mlp.project(pass, &saved.mlp_input.y, &mut saved.mlp, low_rank);
    }

    /// From the gradient of the stream behind the layer to the one before it, in place: a residual block `x + f(n(x))`
    /// adds what comes back through `f` and `n` to what comes back past them.
    pub fn backward(
        &mut self,
        pass: &Pass,
        index: usize,
        stream: &Stream,
        saved: &LayerActivations,
        (scratch, forward): (&mut BackwardScratch, &mut ForwardScratch),
        dstream: &mut Tensor,
    ) {
        let (device, tokens) = (pass.device, pass.batch.tokens);
        let BackwardScratch { dnormed, attention, mlp, partial } = scratch;
        let ForwardScratch { act, low_rank, .. } = forward;
        self.mlp.backward(pass, &saved.mlp_input.y, &saved.mlp, dstream, (mlp, act, low_rank, partial), dnormed);
        let norm_input = (stream.at(2 * index + 1), &saved.mlp_input.rstd);
        self.post_attention_norm.backward(device, dnormed, norm_input, (dstream, true), partial, tokens);
        let (input, scratch) = (&saved.attention_input.y, (attention, low_rank, &mut *partial));
        self.attention.backward(pass, input, &saved.attention, dstream, scratch, dnormed);
        let norm_input = (stream.at(2 * index), &saved.attention_input.rstd);
        self.input_norm.backward(device, dnormed, norm_input, (dstream, true), partial, tokens);
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let attention = self.input_norm.parameters_mut().chain(self.attention.parameters_mut());
        attention.chain(self.post_attention_norm.parameters_mut()).chain(self.mlp.parameters_mut())
    }
}
