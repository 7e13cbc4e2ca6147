//! The decoder: embedding, layers, last norm; from packed tokens to the hidden states that predict responses.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::build::Build;
use super::cache::InCache;
use super::keep::Keep;
use super::layer::{Layer, LayerActivations, LayerGradients, LayerScratch};
use super::layer_kinds::LayerKind;
use super::mlp_room::MlpRoom;
use super::norm::{Norm, NormOutput};
use super::parameter::Parameter;
use super::pass::{Finished, Pass, SharedScratch};
use super::rope::table_without_rotation;
use super::stream::Stream;
use crate::data::DeviceBatch;
use crate::device::{DType, Device, Tensor};
use crate::kernels::{Embedding, EmbeddingBackward, GatherRows, LONGEST_SUM_OF_SHORT_LOOPS};

/// The decoder's weights.
pub struct Decoder {
    pub device: Device,
    /// `[vocabulary, hidden]`; the LM head too where it is tied.
    pub embed_tokens: Parameter,
    layers: Vec<Layer>,
    norm: Norm,
    hidden_size: usize,
    embedding_scale: f32,
}

/// What a forward pass leaves.
pub struct Activations {
    stream: Stream,
    /// Of every layer, where everything is kept; rounded, or where they were computed.
    layers: Vec<LayerActivations>,
    /// `[tokens]`: of the last norm.
    last_rstd: Tensor,
    /// `[positions, hidden]`: the last norm's output where an action is predicted.
    pub hidden: Tensor,
}

/// Working memory of a pass; two networks of one shape share it.
pub struct Scratch {
    shared: SharedScratch,
    layer: LayerScratch,
    /// `[tokens, hidden]`: the last norm's output.
    last: Tensor,
    /// Of the layer at hand, where not every layer's are kept as they are.
    at_hand: Option<LayerActivations>,
    backward: Option<BackwardScratch>,
}

/// What only a backward pass works in.
struct BackwardScratch {
    /// `[tokens, hidden]`: gradient of the residual stream.
    dstream: Tensor,
    layer: LayerGradients,
}

impl Activations {
    /// Room for a batch.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize, positions: usize, keep: Keep) -> Result<Self> {
        let layers = if let Keep::Everything(_) = keep { build.config.num_hidden_layers } else { 0 };
        let name = |part: String| format!("{}/activations/{part}", build.model);
        let dtype = keep.activations().storage();
        let room = MlpRoom::new(build, tokens, keep);
        let layer = |layer| LayerActivations::new(build, &name(format!("layer {layer}")), room, dtype);
        Ok(Self {
            stream: Stream::new(build, tokens, keep)?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            last_rstd: build.activation("last_rstd", &[tokens])?,
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
        let backward = || -> Result<BackwardScratch> {
            let dstream = build.scratch("dstream", &[tokens, build.config.hidden_size])?;
            Ok(BackwardScratch { dstream, layer: LayerGradients::new(build, tokens)? })
        };
        let room = MlpRoom::new(build, tokens, keep);
        let at_hand = || LayerActivations::new(build, "scratch/layer", room, DType::Real);
        Ok(Self {
            shared: SharedScratch::new(build, room, keep)?,
            layer: LayerScratch::new(build, room)?,
            last: build.scratch("last", &[tokens, build.config.hidden_size])?,
            at_hand: if keep.works_in_place() { None } else { Some(at_hand()?) },
            backward: if keep == Keep::Nothing { None } else { Some(backward()?) },
        })
    }

    /// Partial sums over blocks of rows, for the heads' backward passes.
    ///
    /// # Panics
    /// Where the scratch was made for a forward pass alone.
    pub(super) fn partial(&mut self) -> &mut Tensor {
        self.shared.partial()
    }
}

/// Rotary angles, `[positions, head_dim]` each: those of the configuration, and of layers that have none.
struct Ropes {
    tables: Vec<Arc<Tensor>>,
    without_rotation: Option<Arc<Tensor>>,
}

impl Ropes {
    fn new(build: &Build, positions: usize) -> Result<Self> {
        let (layers, head_dim) = (&build.config.layers, build.config.heads.head_dim);
        let mut tables = Vec::new();
        for (index, rope) in layers.ropes.iter().enumerate() {
            let name = if index == 0 { "rope".to_owned() } else { format!("rope[{index}]") };
            tables.push(Self::table(build, &name, positions, |part| rope.table(part, head_dim))?);
        }
        let without = || Self::table(build, "no_rope", positions, |part| table_without_rotation(part, head_dim));
        let is_used = layers.kinds.iter().any(|kind| kind.rope.is_none());
        Ok(Self { tables, without_rotation: if is_used { Some(without()?) } else { None } })
    }

    /// A table, computed by parts.
    fn table(
        build: &Build,
        name: &str,
        positions: usize,
        values: impl Fn(Range<usize>) -> Vec<f64>,
    ) -> Result<Arc<Tensor>> {
        const PART: usize = 4096;
        let head_dim = build.config.heads.head_dim;
        let mut table = build.activation(name, &[positions, head_dim])?;
        for first in (0..positions).step_by(PART) {
            table.write(first * head_dim, values(first..positions.min(first + PART)).into_iter())?;
        }
        Ok(Arc::new(table))
    }

    fn of(&self, kind: LayerKind) -> &Arc<Tensor> {
        let table = kind.rope.map_or(self.without_rotation.as_ref(), |rope| self.tables.get(rope));
        table.expect("a table for every kind of layer")
    }
}

impl Decoder {
    /// The decoder of a model; `positions` is the length of the longest sequence it will see.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape, or has no room.
    pub fn load(build: &Build, positions: usize) -> Result<Self> {
        let config = build.config;
        let longest = config.heads.longest_of_max_tiles();
        ensure!(
            positions <= longest || !build.device.limits().short_loops,
            "a sequence has {positions} tokens, and this adapter's driver computes attention over at most {longest}; \
             use a smaller --max-length or --device cpu"
        );
        // The gradient of the MLP's input is a sum over gate and up.
        let widest = LONGEST_SUM_OF_SHORT_LOOPS / 2;
        ensure!(
            config.intermediate_size <= widest || !build.device.limits().short_loops,
            "the model's intermediate_size is {}, and this adapter's driver computes one of at most {widest}; use --device cpu",
            config.intermediate_size
        );
        let ropes = Ropes::new(build, positions)?;
        let layer = |index| Layer::load(build, index, ropes.of(config.layers.kinds[index]));
        Ok(Self {
            device: build.device.clone(),
            embed_tokens: build.parameter("model.embed_tokens.weight", &[config.vocab_size, config.hidden_size])?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: Norm::load(build, "model.norm")?,
            hidden_size: config.hidden_size,
            embedding_scale: config.embedding_scale,
        })
    }

    /// `activations.hidden` = the hidden states at the batch's response positions. With a cache the keys and values are kept
    /// there.
    pub fn forward(
        &self,
        batch: &DeviceBatch,
        cache: Option<InCache>,
        activations: &mut Activations,
        scratch: &mut Scratch,
    ) {
        let Activations { stream, layers: saved, last_rstd, hidden } = activations;
        let Scratch { shared, layer: scratch, last, at_hand, .. } = scratch;
        let pass = &mut Pass { device: &self.device, batch, rows: 0..batch.tokens, cache, scratch: shared };
        self.embed(batch, stream.first());
        for (index, layer) in self.layers.iter().enumerate() {
            let Some(at_hand) = at_hand else {
                layer.forward(pass, stream, &mut saved[index], scratch);
                continue;
            };
            layer.forward(pass, stream, at_hand, scratch);
            if let Some(kept) = saved.get_mut(index) {
                kept.keep(pass, at_hand);
            }
        }
        stream.norm(pass, self.last_site(), &self.norm, &scratch.delta, NormOutput { y: last, rstd: last_rstd });
        self.gather(&batch.response_rows, last, hidden, batch.positions);
    }

    /// `activations.hidden` = the hidden states of tokens that attend to their sequences in the cache.
    ///
    /// # Panics
    /// Where the activations keep every layer's.
    pub fn decode(&self, batch: &DeviceBatch, cache: InCache, activations: &mut Activations, scratch: &mut Scratch) {
        let Activations { stream, last_rstd, hidden, .. } = activations;
        let Scratch { shared, layer: scratch, last, at_hand: Some(at_hand), .. } = scratch else {
            panic!("scratch of a pass of which every layer's activations are kept");
        };
        let pass =
            &mut Pass { device: &self.device, batch, rows: 0..batch.tokens, cache: Some(cache), scratch: shared };
        let x = stream.first();
        self.embed(batch, x);
        for layer in &self.layers {
            layer.decode(pass, x, at_hand, scratch);
        }
        self.norm.forward(pass, x, last, last_rstd);
        self.gather(&batch.response_rows, last, hidden, batch.positions);
    }

    /// Adds to every weight's gradient what `dhidden`, the gradient of `activations.hidden`, gives it: the forward pass,
    /// last line first.
    ///
    /// # Panics
    /// Where activations or scratch were made for a forward pass alone.
    pub fn backward(
        &mut self,
        batch: &DeviceBatch,
        activations: &mut Activations,
        scratch: &mut Scratch,
        dhidden: &Tensor,
        finished: Finished,
    ) {
        let Activations { stream, layers: saved, last_rstd, .. } = activations;
        let Scratch { shared, layer: scratch, at_hand, backward: Some(backward), .. } = scratch else {
            panic!("scratch for a forward pass alone");
        };
        let BackwardScratch { dstream, layer: gradients } = backward;
        // The rows that are no response position get no gradient: the gather back fills them with zeros.
        self.gather(&batch.position_of_token, dhidden, &mut gradients.dnormed, batch.tokens);
        let h = stream.at(self.last_site());
        let pass = &mut Pass { device: &self.device, batch, rows: 0..batch.tokens, cache: None, scratch: shared };
        self.norm.backward(pass, h, last_rstd, &gradients.dnormed, dstream);
        finished(&mut self.norm.parameters_mut());
        for (index, layer) in self.layers.iter_mut().enumerate().rev() {
            let saved = match at_hand {
                Some(at_hand) => {
                    if let Some(kept) = saved.get_mut(index) {
                        layer.restore(pass, stream);
                        kept.restore(pass, at_hand);
                    } else {
                        layer.recompute(pass, stream, at_hand, scratch);
                    }
                    at_hand
                }
                None => &mut saved[index],
            };
            layer.backward(pass, stream, saved, scratch, gradients, dstream);
            finished(&mut layer.parameters_mut());
        }
        self.embed_backward(batch, dstream);
        finished(&mut std::iter::once(&mut self.embed_tokens));
    }

    /// Where the last norm reads the stream.
    fn last_site(&self) -> usize {
        2 * self.layers.len()
    }

    /// `hidden` `[rows, hidden]` = the last norm's output at any `rows` tokens of the batch of the last forward pass in this scratch.
    pub fn hidden_at(&self, scratch: &Scratch, index: &Tensor, rows: usize, hidden: &mut Tensor) {
        self.gather(index, &scratch.last, hidden, rows);
    }

    fn gather(&self, index: &Tensor, x: &Tensor, y: &mut Tensor, rows: usize) {
        self.device.run(GatherRows { index, x, y, rows: rows as u32, cols: self.hidden_size as u32 });
    }

    fn embed(&self, batch: &DeviceBatch, y: &mut Tensor) {
        for shard in self.embed_tokens.shards() {
            self.device.run(Embedding {
                ids: &batch.ids,
                weight: &shard.weight,
                y: &mut *y,
                tokens: batch.tokens as u32,
                cols: self.hidden_size as u32,
                first_row: shard.first_row as u32,
                shard_rows: shard.rows as u32,
                scale: self.embedding_scale,
            });
        }
    }

    fn embed_backward(&mut self, batch: &DeviceBatch, dy: &Tensor) {
        for shard in self.embed_tokens.shards_mut() {
            if let Some(dweight) = &mut shard.gradient {
                self.device.run(EmbeddingBackward {
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

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let layers = self.layers.iter_mut().flat_map(Layer::parameters_mut);
        std::iter::once(&mut self.embed_tokens).chain(layers).chain(self.norm.parameters_mut())
    }

    /// All weights, in the order in which a backward pass has finished their gradients.
    pub fn parameters_as_finished_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let layers = self.layers.iter_mut().rev().flat_map(Layer::parameters_mut);
        self.norm.parameters_mut().chain(layers).chain(std::iter::once(&mut self.embed_tokens))
    }
}
