//! The attention block: `y = W_o attention(rope(W_q x), rope(W_k x), W_v x)`, with RMSNorm on each query and key head
//! where the model has it (Qwen3).

use anyhow::Result;

use super::cache::LayerCache;
use super::linear::Linear;
use super::lora::LowRank;
use super::norm::Norm;
use super::parameter::Parameter;
use super::{Build, Pass};
use crate::device::Tensor;
use crate::kernels::{
    self, Attention as AttentionKernel, AttentionCached, Heads, OutputGradient, Projections, Rope, Sequences,
};

/// The block's weights.
pub struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    head_norms: Option<HeadNorms>,
    heads: Heads,
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

/// What the backward pass works in; shared by all layers.
pub struct AttentionScratch {
    /// `[tokens, heads, head_dim]`: gradient of attention's output.
    dout: Tensor,
    /// `[tokens, heads, 2]`: lse and delta.
    row_statistics: Tensor,
    /// `[tokens, heads, head_dim]`
    dq: Tensor,
    /// `[tokens, kv_heads, head_dim]`
    dk: Tensor,
    /// `[tokens, kv_heads, head_dim]`
    dv: Tensor,
    /// As `dq` and `dk`, before the head norms, where there are any.
    before_norm: Option<(Tensor, Tensor)>,
}

impl AttentionActivations {
    pub(super) fn new(build: &Build, name: &str, tokens: usize) -> Result<Self> {
        let Heads { heads, kv_heads, head_dim } = build.config.heads;
        let tensor = |part: &str, shape: &[usize]| build.tensor(&format!("{name}/{part}"), shape);
        let before_norm = if build.config.qk_norm {
            Some(HeadNormActivations {
                q: tensor("q_before_norm", &[tokens, heads, head_dim])?,
                k: tensor("k_before_norm", &[tokens, kv_heads, head_dim])?,
                q_rstd: tensor("q_rstd", &[tokens, heads])?,
                k_rstd: tensor("k_rstd", &[tokens, kv_heads])?,
            })
        } else {
            None
        };
        Ok(Self {
            q: tensor("q", &[tokens, heads, head_dim])?,
            k: tensor("k", &[tokens, kv_heads, head_dim])?,
            v: tensor("v", &[tokens, kv_heads, head_dim])?,
            o: tensor("o", &[tokens, heads, head_dim])?,
            lse: tensor("lse", &[tokens, heads])?,
            before_norm,
        })
    }
}

impl AttentionScratch {
    pub(super) fn new(build: &Build, tokens: usize) -> Result<Self> {
        let Heads { heads, kv_heads, head_dim } = build.config.heads;
        let tensor = |name: &str, shape: &[usize]| build.scratch(name, shape);
        let (q_shape, k_shape) = ([tokens, heads, head_dim], [tokens, kv_heads, head_dim]);
        let before_norm = if build.config.qk_norm {
            Some((tensor("dq_before_norm", &q_shape)?, tensor("dk_before_norm", &k_shape)?))
        } else {
            None
        };
        Ok(Self {
            dout: tensor("dout", &q_shape)?,
            row_statistics: tensor("row_statistics", &[tokens, heads, 2])?,
            dq: tensor("dq", &q_shape)?,
            dk: tensor("dk", &k_shape)?,
            dv: tensor("dv", &k_shape)?,
            before_norm,
        })
    }
}

impl Attention {
    pub(super) fn load(build: &Build, name: &str) -> Result<Self> {
        let config = build.config;
        let Heads { heads, kv_heads, head_dim } = config.heads;
        let (hidden, q_size, kv_size) = (config.hidden_size, heads * head_dim, kv_heads * head_dim);
        let linear = |part: &str, shape, bias| Linear::load(build, &format!("{name}.{part}"), shape, bias);
        let norm = |part: &str| Norm::load(build, &format!("{name}.{part}"), head_dim);
        Ok(Self {
            q_proj: linear("q_proj", [q_size, hidden], config.qkv_bias)?,
            k_proj: linear("k_proj", [kv_size, hidden], config.qkv_bias)?,
            v_proj: linear("v_proj", [kv_size, hidden], config.qkv_bias)?,
            o_proj: linear("o_proj", [hidden, q_size], config.output_bias)?,
            head_norms: if config.qk_norm {
                Some(HeadNorms { q_norm: norm("q_norm")?, k_norm: norm("k_norm")? })
            } else {
                None
            },
            heads: config.heads,
        })
    }

    /// `y = attention(x)`, both `[tokens, hidden]`. With a cache the keys and values are kept there.
    pub fn forward(
        &self,
        pass: &Pass,
        x: &Tensor,
        saved: &mut AttentionActivations,
        cache: Option<&mut LayerCache>,
        low_rank: &mut LowRank,
        y: &mut Tensor,
    ) {
        let (device, tokens) = (pass.device, pass.batch.tokens);
        let Heads { heads, kv_heads, head_dim } = self.heads;
        match (&self.head_norms, &mut saved.before_norm) {
            (Some(norms), Some(raw)) => {
                self.q_proj.forward(device, x, &mut raw.q, low_rank, tokens);
                self.k_proj.forward(device, x, &mut raw.k, low_rank, tokens);
                norms.q_norm.forward(device, &raw.q, &mut saved.q, &mut raw.q_rstd, tokens * heads);
                norms.k_norm.forward(device, &raw.k, &mut saved.k, &mut raw.k_rstd, tokens * kv_heads);
            }
            _ => {
                self.q_proj.forward(device, x, &mut saved.q, low_rank, tokens);
                self.k_proj.forward(device, x, &mut saved.k, low_rank, tokens);
            }
        }
        self.v_proj.forward(device, x, &mut saved.v, low_rank, tokens);
        self.rotate(pass, &mut saved.q, heads, 1.0);
        self.rotate(pass, &mut saved.k, kv_heads, 1.0);
        let places = pass.places.zip(cache).map(|(places, cache)| {
            cache.store(device, (&saved.k, &saved.v), &places.places, tokens, kv_heads * head_dim);
            (places, cache)
        });
        match places {
            Some((places, cache)) if places.attend_to_cache => device.run(AttentionCached {
                spans: &places.spans,
                q: &saved.q,
                k: &cache.k,
                v: &cache.v,
                o: &mut saved.o,
                rows: tokens as u32,
                heads: heads as u32,
                kv_heads: kv_heads as u32,
                scale: self.heads.scale(),
                head_dim: head_dim as u32,
                longest: places.longest as u32,
            }),
            _ => {
                let sequences = Sequences { bounds: &pass.batch.bounds, tokens, longest: pass.batch.longest };
                let projections = Projections { q: &saved.q, k: &saved.k, v: &saved.v };
                AttentionKernel::run(device, self.heads, sequences, projections, &mut saved.o, &mut saved.lse);
            }
        }
        self.o_proj.forward(device, &saved.o, y, low_rank, tokens);
    }

    /// `dx` of `dy`, and the weights' gradients: the forward pass, last line first.
    pub fn backward(
        &mut self,
        pass: &Pass,
        x: &Tensor,
        saved: &AttentionActivations,
        dy: &Tensor,
        (scratch, low_rank, partial): (&mut AttentionScratch, &mut LowRank, &mut Tensor),
        dx: &mut Tensor,
    ) {
        let (device, tokens) = (pass.device, pass.batch.tokens);
        let Heads { heads, kv_heads, head_dim } = self.heads;
        let AttentionScratch { dout, row_statistics, dq, dk, dv, before_norm } = scratch;
        self.o_proj.backward_input(device, dy, dout, low_rank, tokens, false);
        self.o_proj.backward_weight(device, &saved.o, dy, (low_rank, partial), tokens);

        let sequences = Sequences { bounds: &pass.batch.bounds, tokens, longest: pass.batch.longest };
        let projections = Projections { q: &saved.q, k: &saved.k, v: &saved.v };
        device.run(kernels::AttentionBackwardDelta {
            o: &saved.o,
            dout,
            lse: &saved.lse,
            row_statistics,
            rows: (tokens * heads) as u32,
            head_dim: head_dim as u32,
        });
        let output = OutputGradient { dout, row_statistics };
        kernels::AttentionBackwardQuery::run(device, self.heads, sequences, projections, output, dq);
        kernels::AttentionBackwardKeyValue::run(device, self.heads, sequences, projections, output, dk, dv);
        self.rotate(pass, dk, kv_heads, -1.0);
        self.rotate(pass, dq, heads, -1.0);

        self.v_proj.backward_input(device, dv, dx, low_rank, tokens, false);
        self.v_proj.backward_weight(device, x, dv, (low_rank, partial), tokens);
        let (dq, dk) = match (&mut self.head_norms, &saved.before_norm, before_norm) {
            (Some(norms), Some(raw), Some((raw_dq, raw_dk))) => {
                norms.k_norm.backward(device, dk, (&raw.k, &raw.k_rstd), (raw_dk, false), partial, tokens * kv_heads);
                norms.q_norm.backward(device, dq, (&raw.q, &raw.q_rstd), (raw_dq, false), partial, tokens * heads);
                (raw_dq, raw_dk)
            }
            _ => (dq, dk),
        };
        self.k_proj.backward_input(device, dk, dx, low_rank, tokens, true);
        self.k_proj.backward_weight(device, x, dk, (low_rank, partial), tokens);
        self.q_proj.backward_input(device, dq, dx, low_rank, tokens, true);
        self.q_proj.backward_weight(device, x, dq, (low_rank, partial), tokens);
    }

    fn rotate(&self, pass: &Pass, x: &mut Tensor, heads: usize, sign: f32) {
        pass.device.run(Rope {
            positions: &pass.batch.position_in_sequence,
            table: pass.rope,
            x,
            tokens: pass.batch.tokens as u32,
            heads: heads as u32,
            head_dim: self.heads.head_dim as u32,
            sign,
        });
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let linears = [&mut self.q_proj, &mut self.k_proj, &mut self.v_proj, &mut self.o_proj];
        let norms = self.head_norms.iter_mut().flat_map(|norms| [&mut norms.q_norm, &mut norms.k_norm]);
        linears.into_iter().flat_map(Linear::parameters_mut).chain(norms.flat_map(Norm::parameters_mut))
    }
}
