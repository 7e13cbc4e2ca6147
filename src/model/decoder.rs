//! The decoder: embedding, layers, last norm; from packed tokens to the hidden states that predict responses.

use anyhow::{Result, ensure};

use super::cache::{Cache, CachePlaces};
use super::layer::{BackwardScratch, ForwardScratch, Layer, LayerActivations, Stream};
use super::norm::{Norm, NormActivations};
use super::parameter::Parameter;
use super::{Build, Pass};
use crate::data::DeviceBatch;
use crate::device::{DType, Device, Tensor};
use crate::kernels::{Embedding, EmbeddingBackward, GatherRows};

/// The decoder's weights.
pub struct Decoder {
    /// `[vocabulary, hidden]`; the LM head too where it is tied.
    pub embed_tokens: Parameter,
    layers: Vec<Layer>,
    norm: Norm,
    /// `[positions, head_dim]`: rotary angles.
    rope: Tensor,
    hidden_size: usize,
    embedding_scale: f32,
}

/// What a forward pass keeps for a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: there is no backward pass.
    Nothing,
    /// Each layer's input; the backward pass computes the rest of a layer again (gradient checkpointing).
    LayerInputs,
    /// All that the backward pass reads.
    Everything,
}

/// What a forward pass leaves behind.
pub struct Activations {
    stream: Stream,
    /// Of every layer, where everything is kept.
    layers: Vec<LayerActivations>,
    last: NormActivations,
    /// `[positions, hidden]`: the last norm's output where an action is predicted.
    pub hidden: Tensor,
}

/// Working memory of a pass; two networks of one shape share it.
pub struct Scratch {
    forward: ForwardScratch,
    /// Of the layer at hand, where not every layer's are kept.
    layer: Option<LayerActivations>,
    backward: Option<BackwardScratch>,
    /// `[tokens, hidden]`: gradient of the residual stream.
    dstream: Option<Tensor>,
}

impl Activations {
    /// Room for a batch.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize, positions: usize, keep: Keep) -> Result<Self> {
        let layers = if keep == Keep::Everything { build.config.num_hidden_layers } else { 0 };
        let name = |part: String| format!("{}/activations/{part}", build.model);
        let layer = |layer| LayerActivations::new(build, &name(format!("layer {layer}")), tokens);
        Ok(Self {
            stream: Stream::new(build, tokens, keep)?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            last: NormActivations::new(build, &name("norm".to_owned()), tokens)?,
            hidden: build.activation("hidden", &[positions, build.config.hidden_size])?,
        })
    }
}

impl Scratch {
    /// Room for a batch, for passes over activations that keep as much.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize, keep: Keep) -> Result<Self> {
        let (backward, dstream) = if keep == Keep::Nothing {
            (None, None)
        } else {
            let dstream = build.scratch("dstream", &[tokens, build.config.hidden_size])?;
            (Some(BackwardScratch::new(build, tokens)?), Some(dstream))
        };
        let layer =
            if keep == Keep::Everything { None } else { Some(LayerActivations::new(build, "scratch/layer", tokens)?) };
        Ok(Self { forward: ForwardScratch::new(build, tokens)?, layer, backward, dstream })
    }

    /// Partial sums over blocks of rows, for the heads' backward passes.
    ///
    /// # Panics
    /// Where the scratch was made for a forward pass alone.
    pub(super) fn partial(&mut self) -> &mut Tensor {
        &mut self.backward.as_mut().expect("scratch for a backward pass").partial
    }
}

impl Decoder {
    /// The decoder of a model; `positions` is the length of the longest sequence it will see.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape, or has no room.
    pub fn load(build: &Build, positions: usize) -> Result<Self> {
        let config = build.config;
        let head_dim = config.heads.head_dim;
        let longest = config.heads.longest_of_max_tiles();
        ensure!(
            positions <= longest || !build.device.limits().short_loops,
            "a sequence has {positions} tokens, and this adapter's driver computes attention over at most {longest}; \
             use a smaller --max-length or --device cpu"
        );
        let mut rope = build.activation("rope", &[positions, head_dim])?;
        rope.write(0, config.rope.table(positions, head_dim).into_iter())?;
        Ok(Self {
            embed_tokens: build.parameter("model.embed_tokens.weight", &[config.vocab_size, config.hidden_size])?,
            layers: (0..config.num_hidden_layers).map(|layer| Layer::load(build, layer)).collect::<Result<_>>()?,
            norm: Norm::load(build, "model.norm", config.hidden_size)?,
            rope,
            hidden_size: config.hidden_size,
            embedding_scale: config.embedding_scale,
        })
    }

    /// `activations.hidden` = the hidden states at the batch's response positions. With a cache, and places in it, the keys
    /// and values are kept there.
    pub fn forward(
        &self,
        device: &Device,
        batch: &DeviceBatch,
        mut cache: Option<(&mut Cache, &CachePlaces)>,
        activations: &mut Activations,
        scratch: &mut Scratch,
    ) {
        let pass = Pass { device, batch, rope: &self.rope, places: cache.as_ref().map(|(_, places)| *places) };
        let Activations { stream, layers: saved, last, hidden } = activations;
        let Scratch { forward, layer: shared, .. } = scratch;
        self.embed(&pass, stream.first());
        for (index, layer) in self.layers.iter().enumerate() {
            let saved = shared.as_mut().unwrap_or_else(|| &mut saved[index]);
            let cache = cache.as_mut().map(|(cache, _)| &mut cache.layers[index]);
            layer.forward(&pass, index, stream, (saved, cache), forward);
        }
        stream.norm(device, 2 * self.layers.len(), &self.norm, &forward.delta, last, batch.tokens);
        self.gather(device, &batch.response_rows, &last.y, hidden, batch.positions);
    }

    /// Adds to every weight's gradient what `dhidden`, the gradient of `activations.hidden`, gives it.
    ///
    /// # Panics
    /// Where activations or scratch were made for a forward pass alone.
    pub fn backward(
        &mut self,
        device: &Device,
        batch: &DeviceBatch,
        activations: &mut Activations,
        scratch: &mut Scratch,
        dhidden: &Tensor,
    ) {
        let pass = Pass { device, batch, rope: &self.rope, places: None };
        let Activations { stream, layers: saved, last, .. } = activations;
        let Scratch { forward, layer: recomputed, backward: Some(backward), dstream: Some(dstream) } = scratch else {
            panic!("scratch for a forward pass alone");
        };
        // The rows that are no response position get no gradient: the gather back fills them with zeros.
        self.gather(device, &batch.position_of_token, dhidden, &mut backward.dnormed, batch.tokens);
        let norm_input = (stream.at(2 * self.layers.len()), &last.rstd);
        let BackwardScratch { dnormed, partial, .. } = &mut *backward;
        self.norm.backward(device, dnormed, norm_input, (dstream, false), partial, batch.tokens);
        for (index, layer) in self.layers.iter_mut().enumerate().rev() {
            let saved = match recomputed {
                Some(recomputed) => {
                    layer.recompute(&pass, index, stream, recomputed, forward);
                    &*recomputed
                }
                None => &saved[index],
            };
            layer.backward(&pass, index, stream, saved, (&mut *backward, &mut *forward), dstream);
        }
        self.embed_backward(device, batch, dstream);
    }

    /// `hidden` = the last norm's output at any tokens of the batch of the last forward pass.
    pub fn hidden_at(
        &self,
        device: &Device,
        activations: &Activations,
        index: &Tensor,
        rows: usize,
        hidden: &mut Tensor,
    ) {
        self.gather(device, index, &activations.last.y, hidden, rows);
    }

    fn gather(&self, device: &Device, index: &Tensor, x: &Tensor, y: &mut Tensor, rows: usize) {
        device.run(GatherRows { index, x, y, rows: rows as u32, cols: self.hidden_size as u32 });
    }

    fn embed(&self, pass: &Pass, y: &mut Tensor) {
        for shard in self.embed_tokens.shards() {
            pass.device.run(Embedding {
                ids: &pass.batch.ids,
                weight: &shard.weight,
                y: &mut *y,
                tokens: pass.batch.tokens as u32,
                cols: self.hidden_size as u32,
                first_row: shard.first_row as u32,
                shard_rows: shard.rows as u32,
                scale: self.embedding_scale,
            });
        }
    }

    fn embed_backward(&mut self, device: &Device, batch: &DeviceBatch, dy: &Tensor) {
        for shard in self.embed_tokens.shards_mut() {
            if let Some(dweight) = &mut shard.gradient {
                device.run(EmbeddingBackward {
                    order: &batch.order,
                    group_starts: &batch.group_starts,
                    group_ids: &batch.group_ids,
                    dy,
                    dweight,
                    groups: batch.groups as u32,
                    cols: self.hidden_size as u32,
                    first_row: shard.first_row as u32,
                    shard_rows: shard.rows as u32,
                    scale: self.embedding_scale,
                });
            }
        }
    }

    /// The type of the matrices as stored.
    pub fn dtype(&self) -> DType {
        self.embed_tokens.shards()[0].weight.dtype()
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let layers = self.layers.iter_mut().flat_map(Layer::parameters_mut);
        std::iter::once(&mut self.embed_tokens).chain(layers).chain(self.norm.parameters_mut())
    }
}
