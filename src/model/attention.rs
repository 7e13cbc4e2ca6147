//! The attention block: `y = W_o attention(rope(W_q x), rope(W_k x), W_v x)`, with RMSNorm on each query and key head
//! where the model has it (Qwen3).

use std::sync::Arc;

use anyhow::Result;

use super::build::Build;
use super::cache::{Cache, InCache, Seen};
use super::linear::Linear;
use super::linear_group::LinearGroup;
use super::norm::{Norm, NormActivations};
use super::parameter::Parameter;
use super::pass::Pass;
use crate::data::DeviceBatch;
use crate::device::{DType, MatmulPrecision, Tensor};
use crate::kernels::{
    self, Attention as AttentionKernel, AttentionCached, CachedKeys, CachedOutput, Heads, KeyValueGradients,
    OutputGradient, Projections, Rope, RopeCached, Sequences, SplitRoom,
};

/// The signs of the angles of a rotation and of its inverse, which is its gradient's.
const FORWARD: f32 = 1.0;
const BACK: f32 = -1.0;

/// The block's weights.
pub struct Attention {
    /// Of which layer it is: where its keys and values stand in a cache.
    layer: usize,
    /// Queries, keys and values.
    qkv: LinearGroup<3>,
    o_proj: Linear,
    head_norms: Option<HeadNorms>,
    heads: Heads,
    /// What scores are multiplied by.
    scale: f32,
    /// The most tokens that one sees, where they are fewer than its sequence.
    window: Option<usize>,
    /// `[positions, head_dim]`: rotary angles, which layers share.
    rope: Arc<Tensor>,
}

struct HeadNorms {
    q_norm: Norm,
    k_norm: Norm,
}

/// What the forward pass keeps.
pub struct AttentionActivations {
    /// `[tokens, heads, head_dim]`, rotated
    q: Tensor,
    /// `[tokens, kv_heads, head_dim]`, rotated
    k: Tensor,
    /// `[tokens, kv_heads, head_dim]`
    v: Tensor,
    /// `[tokens, heads, head_dim]`: attention's output.
    o: Tensor,
    /// `[tokens, heads]`: logarithm of each row's sum.
    lse: Tensor,
    before_norm: Option<HeadNormActivations>,
}

struct HeadNormActivations {
    /// `[tokens, heads, head_dim]`: the projection, before norm and rotation.
    q: Tensor,
    /// `[tokens, kv_heads, head_dim]`
    k: Tensor,
    /// `[tokens, heads]`
    q_rstd: Tensor,
    /// `[tokens, kv_heads]`
    k_rstd: Tensor,
}

/// Gradients inside the block; shared by all layers.
pub struct AttentionGradients {
    /// `[tokens, heads, head_dim]`: gradient of attention's output.
    dout: Tensor,
    /// `[tokens, heads, 2]`: lse and delta.
    row_statistics: Tensor,
    before_norm: Option<HeadNormGradients>,
}

/// What a backward pass works in.
pub struct AttentionBackward<'a> {
    pub gradients: &'a mut AttentionGradients,
    /// `[tokens, heads, head_dim]`
    pub dq: &'a mut Tensor,
    /// `[tokens, kv_heads, head_dim]`
    pub dk: &'a mut Tensor,
    /// `[tokens, kv_heads, head_dim]`
    pub dv: &'a mut Tensor,
}

/// The gradients of what goes into the head norms.
struct HeadNormGradients {
    /// `[tokens, heads, head_dim]`
    dq: Tensor,
    /// `[tokens, kv_heads, head_dim]`
    dk: Tensor,
}

impl AttentionActivations {
    /// Room for `tokens`; but for sums and norms' factors it is stored as `dtype`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, name: &str, tokens: usize, dtype: DType) -> Result<Self> {
        let Heads { heads, kv_heads, head_dim } = build.config.heads;
        let tensor = |part: &str, heads| build.kept(&format!("{name}/{part}"), &[tokens, heads, head_dim], dtype);
        let of_rows = |part: &str, heads| build.tensor(&format!("{name}/{part}"), &[tokens, heads]);
        let before_norm = if build.config.qk_norm {
            Some(HeadNormActivations {
                q: tensor("q_before_norm", heads)?,
                k: tensor("k_before_norm", kv_heads)?,
                q_rstd: of_rows("q_rstd", heads)?,
                k_rstd: of_rows("k_rstd", kv_heads)?,
            })
        } else {
            None
        };
        Ok(Self {
            q: tensor("q", heads)?,
            k: tensor("k", kv_heads)?,
            v: tensor("v", kv_heads)?,
            o: tensor("o", heads)?,
            lse: of_rows("lse", heads)?,
            before_norm,
        })
    }

    /// All tensors.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let Self { q, k, v, o, lse, before_norm } = self;
        let before = before_norm.iter_mut().flat_map(|before| {
            let HeadNormActivations { q, k, q_rstd, k_rstd } = before;
            [q, k, q_rstd, k_rstd]
        });
        [q, k, v, o, lse].into_iter().chain(before)
    }
}

impl AttentionGradients {
    /// Room for `tokens`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize) -> Result<Self> {
        let Heads { heads, kv_heads, head_dim } = build.config.heads;
        let tensor = |name: &str, shape: &[usize]| build.scratch(name, shape);
        let (q_shape, k_shape) = ([tokens, heads, head_dim], [tokens, kv_heads, head_dim]);
        let before_norm = if build.config.qk_norm {
            Some(HeadNormGradients { dq: tensor("dq_before_norm", &q_shape)?, dk: tensor("dk_before_norm", &k_shape)? })
        } else {
            None
        };
        Ok(Self {
            dout: tensor("dout", &q_shape)?,
            row_statistics: tensor("row_statistics", &[tokens, heads, 2])?,
            before_norm,
        })
    }
}

impl Attention {
    /// The block of layer `layer`, whose layers' names begin with `name`; `rope` is `[positions, head_dim]`.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape, or has no room.
    pub fn load(build: &Build, layer: usize, name: &str, rope: &Arc<Tensor>) -> Result<Self> {
        let config = build.config;
        let Heads { heads, kv_heads, head_dim } = config.heads;
        let (hidden, q_size, kv_size) = (config.hidden_size, heads * head_dim, kv_heads * head_dim);
        let linear = |part: &str, shape, bias| Linear::load(build, &format!("{name}.{part}"), shape, bias);
        let norm = |part: &str, heads| Norm::load_for_heads(build, &format!("{name}.{part}"), heads);
        Ok(Self {
            layer,
            qkv: LinearGroup::new([
                linear("q_proj", [q_size, hidden], config.qkv_bias)?,
                linear("k_proj", [kv_size, hidden], config.qkv_bias)?,
                linear("v_proj", [kv_size, hidden], config.qkv_bias)?,
            ]),
            o_proj: linear("o_proj", [hidden, q_size], config.output_bias)?,
            head_norms: if config.qk_norm {
                Some(HeadNorms { q_norm: norm("q_norm", heads)?, k_norm: norm("k_norm", kv_heads)? })
            } else {
                None
            },
            heads: config.heads,
            scale: config.attention_scale,
            window: config.layers.window_of(config.layers.kinds[layer]),
            rope: rope.clone(),
        })
    }

    /// What [`Attention::output`] reads of `norm(x)`, of `x` `[tokens, hidden]`, where the tokens attend to their sequences in the
    /// cache; `normed` is scratch.
    pub fn attend_newest(
        &self,
        pass: &mut Pass,
        norm: &Norm,
        x: &Tensor,
        normed: &mut NormActivations,
        saved: &mut AttentionActivations,
    ) {
        self.project(pass, saved, |pass, qkv| self.qkv.forward_normed(pass, norm, x, normed, qkv));
        self.attend_to_cache(pass, saved);
    }

    /// Queries, keys and values as `multiply` writes them, the heads of the first two normalised where the model has it.
    fn project(
        &self,
        pass: &mut Pass,
        saved: &mut AttentionActivations,
        multiply: impl FnOnce(&mut Pass, [&mut Tensor; 3]),
    ) {
        let AttentionActivations { q, k, v, before_norm, .. } = saved;
        let (Some(norms), Some(before)) = (&self.head_norms, before_norm) else {
            return multiply(pass, [q, k, v]);
        };
        multiply(pass, [&mut before.q, &mut before.k, v]);
        norms.q_norm.forward(pass, &before.q, q, &mut before.q_rstd);
        norms.k_norm.forward(pass, &before.k, k, &mut before.k_rstd);
    }

    /// `y = W_o o` `[tokens, hidden]`, or `y += W_o o`.
    pub fn output(&self, pass: &mut Pass, saved: &AttentionActivations, y: &mut Tensor, accumulate: bool) {
        self.o_proj.forward(pass, &saved.o, y, accumulate);
    }

    /// `y = attention(x)`, both `[tokens, hidden]`. Where the pass has a cache, the keys and values are kept there.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, saved: &mut AttentionActivations, y: &mut Tensor) {
        self.project(pass, saved, |pass, qkv| self.qkv.forward(pass, x, qkv));
        self.rotate(pass, &mut saved.q, &mut saved.k, FORWARD);
        self.attend(pass, saved);
        self.output(pass, saved, y, false);
    }

    /// `dx` of `dy`, and the weights' gradients: the forward pass, last line first.
    pub fn backward(
        &mut self,
        pass: &mut Pass,
        x: &Tensor,
        saved: &AttentionActivations,
        mut work: AttentionBackward,
        dy: &Tensor,
        dx: &mut Tensor,
    ) {
        self.o_proj.backward(pass, &saved.o, dy, &mut work.gradients.dout);
        self.attend_backward(pass, saved, &mut work);
        let AttentionBackward { gradients, dq, dk, dv } = work;
        self.rotate(pass, dq, dk, BACK);
        match (&mut self.head_norms, &saved.before_norm, &mut gradients.before_norm) {
            (Some(norms), Some(before), Some(dbefore)) => {
                norms.k_norm.backward(pass, &before.k, &before.k_rstd, dk, &mut dbefore.dk);
                norms.q_norm.backward(pass, &before.q, &before.q_rstd, dq, &mut dbefore.dq);
                self.qkv.backward(pass, x, [&dbefore.dq, &dbefore.dk, dv], dx);
            }
            _ => self.qkv.backward(pass, x, [dq, dk, dv], dx),
        }
    }

    /// `o = softmax(q k^T) v` of the tokens of the batch.
    fn attend(&self, pass: &mut Pass, saved: &mut AttentionActivations) {
        let (device, tokens) = (pass.device, pass.batch.tokens);
        if let Some(InCache { cache, places }) = &mut pass.cache {
            cache.layers[self.layer].store(device, &saved.k, &saved.v, &places.places, tokens);
        }
        let AttentionActivations { q, k, v, o, lse, .. } = saved;
        let sequences = self.sequences(pass.batch);
        let mut projections = Projections { q, k, v, scale: self.scale, precision: MatmulPrecision::Highest };
        if let Some(SplitRoom { projections: room, .. }) = pass.scratch.split_heads() {
            projections = projections.split(device, self.heads, sequences, room);
        }
        AttentionKernel::run(device, self.heads, sequences, projections, o, lse);
    }

    /// The same of each token to its whole sequence in the cache, where its own key, rotated, and value go first.
    fn attend_to_cache(&self, pass: &mut Pass, saved: &mut AttentionActivations) {
        let Pass { device, batch, cache: Some(InCache { cache, places }), .. } = pass else {
            panic!("a decoding pass has a cache");
        };
        let Cache { layers, part_o, part_lse } = &mut **cache;
        let layer = &mut layers[self.layer];
        device.run(RopeCached {
            positions: &batch.position_in_sequence,
            places: &places.places,
            table: &self.rope,
            q: &mut saved.q,
            k: &saved.k,
            v: &saved.v,
            cached_k: &mut layer.k,
            cached_v: &mut layer.v,
            tokens: batch.tokens as u32,
            heads: self.heads.heads as u32,
            kv_heads: self.heads.kv_heads as u32,
            head_dim: self.heads.head_dim as u32,
        });
        let in_window = places.in_window.as_ref().filter(|_| self.window.is_some());
        let Seen { spans, longest } = in_window.unwrap_or(&places.seen);
        let keys = CachedKeys {
            spans,
            q: &saved.q,
            k: &layer.k,
            v: &layer.v,
            rows: batch.tokens,
            longest: *longest,
            scale: self.scale,
        };
        AttentionCached::run(device, self.heads, keys, CachedOutput { o: &mut saved.o, part_o, part_lse });
    }

    fn sequences<'a>(&self, batch: &'a DeviceBatch) -> Sequences<'a> {
        Sequences { bounds: &batch.bounds, tokens: batch.tokens, longest: batch.longest, window: self.window }
    }

    /// `dq`, `dk` and `dv` of `dout`, of the tokens of the batch.
    fn attend_backward(&self, pass: &mut Pass, saved: &AttentionActivations, work: &mut AttentionBackward) {
        let (device, tokens) = (pass.device, pass.batch.tokens);
        let AttentionBackward { gradients: AttentionGradients { dout, row_statistics, .. }, dq, dk, dv } = work;
        let sequences = self.sequences(pass.batch);
        let AttentionActivations { q, k, v, .. } = saved;
        let mut projections = Projections { q, k, v, scale: self.scale, precision: MatmulPrecision::Highest };
        device.run(kernels::AttentionBackwardDelta {
            o: &saved.o,
            dout,
            lse: &saved.lse,
            row_statistics,
            rows: (tokens * self.heads.heads) as u32,
            head_dim: self.heads.head_dim as u32,
        });
        let mut output = OutputGradient { dout, row_statistics };
        if let Some(SplitRoom { projections: room, dout: Some(room_of_dout) }) = pass.scratch.split_heads() {
            projections = projections.split(device, self.heads, sequences, room);
            output = output.split(device, self.heads, tokens, projections.precision, room_of_dout);
        }
        // The room of dq is free until it is written.
        let gradients = KeyValueGradients { dk, dv, partial: dq };
        kernels::AttentionBackwardKeyValue::run(device, self.heads, sequences, projections, output, gradients);
        kernels::AttentionBackwardQuery::run(device, self.heads, sequences, projections, output, dq);
    }

    /// Turns every head of queries and keys by its position's angles, or back.
    fn rotate(&self, pass: &Pass, q: &mut Tensor, k: &mut Tensor, sign: f32) {
        pass.device.run(Rope {
            positions: &pass.batch.position_in_sequence,
            table: &self.rope,
            q,
            k,
            tokens: pass.batch.tokens as u32,
            heads: self.heads.heads as u32,
            kv_heads: self.heads.kv_heads as u32,
            head_dim: self.heads.head_dim as u32,
            sign,
        });
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let linears = self.qkv.parameters_mut().chain(self.o_proj.parameters_mut());
        let norms = self.head_norms.iter_mut().flat_map(|norms| [&mut norms.q_norm, &mut norms.k_norm]);
        linears.chain(norms.flat_map(Norm::parameters_mut))
    }
}
