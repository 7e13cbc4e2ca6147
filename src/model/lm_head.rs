//! The LM head: from hidden states to log-probs and back, without the logits of all tokens and the whole vocabulary.
//!
//! Three phases, as chunks of [`BLOCK_TOKENS`] x [`CHUNK_COLUMNS`] logits at a time: the forward pass streams the chunks
//! into running statistics; a method turns log-probs into their gradients; the backward pass computes the chunks again, all
//! but the last.

use std::ops::Range;

use anyhow::Result;

use super::build::Build;
use super::parameter::Parameter;
use crate::data::DeviceBatch;
use crate::device::{Device, Tensor};
use crate::kernels::{Layout, LogSoftmax, LogSoftmaxBackward, Matmul, Operand, OperandMut, Product};

/// Tokens of a chunk at most.
const BLOCK_TOKENS: usize = 2048;
/// Columns of a chunk at most: with [`BLOCK_TOKENS`] rows they are 32 MiB of f32.
const CHUNK_COLUMNS: usize = 4096;

/// What the head reads.
#[derive(Clone, Copy)]
pub struct LmHeadInput<'a> {
    pub device: &'a Device,
    pub batch: &'a DeviceBatch,
    /// `[positions, hidden]`: what each action is predicted from.
    pub hidden: &'a Tensor,
}

/// What the head leaves and works in.
pub struct LmHeadActivations {
    /// `[positions]`: log-prob of each action.
    pub logp: Tensor,
    /// `[positions]`: entropy of its distribution, in nats.
    pub entropy: Tensor,
    lse: Tensor,
    running: Tensor,
    logits: Tensor,
    /// The first position and the first id of the chunk whose logits are in `logits`.
    held: Option<[usize; 2]>,
}

impl LmHeadActivations {
    /// Room for a batch. The logits' is bounded by a constant, whatever the batch and the vocabulary.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, positions: usize) -> Result<Self> {
        let tensor = |name: &str, shape: &[usize]| build.scratch(&format!("lm_head/{name}"), shape);
        Ok(Self {
            logp: tensor("logp", &[positions])?,
            entropy: tensor("entropy", &[positions])?,
            lse: tensor("lse", &[positions])?,
            running: tensor("running", &[positions, 4])?,
            logits: tensor("logits", &[positions.min(BLOCK_TOKENS), stride(build.config.vocab_size)])?,
            held: None,
        })
    }
}

/// From one row of the logits' scratch to the next.
fn stride(vocabulary: usize) -> usize {
    vocabulary.min(CHUNK_COLUMNS).next_multiple_of(4)
}

/// Some columns of the vocabulary: rows of one shard of the head's weight.
struct Chunk {
    shard: usize,
    /// The first row in the shard.
    first_row: usize,
    /// The first id.
    first_id: usize,
    columns: usize,
}

fn chunks(weight: &Parameter) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (index, shard) in weight.shards().iter().enumerate() {
        for first_row in (0..shard.rows).step_by(CHUNK_COLUMNS) {
            let columns = CHUNK_COLUMNS.min(shard.rows - first_row);
            chunks.push(Chunk { shard: index, first_row, first_id: shard.first_row + first_row, columns });
        }
    }
    chunks
}

/// The positions, [`BLOCK_TOKENS`] at a time.
fn blocks(positions: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
    (0..positions).step_by(BLOCK_TOKENS).map(move |first| first..positions.min(first + BLOCK_TOKENS))
}

/// `saved.logp` and `saved.entropy` of the batch's actions; `weight` is `[vocabulary, hidden]`.
pub fn forward(input: LmHeadInput, weight: &Parameter, saved: &mut LmHeadActivations) {
    let LmHeadActivations { logp, entropy, lse, running, logits, held } = saved;
    let LmHeadInput { device, batch, .. } = input;
    let chunks = chunks(weight);
    for block in blocks(batch.positions) {
        for chunk in &chunks {
            compute_logits(input, weight, chunk, &block, logits);
            *held = Some([block.start, chunk.first_id]);
            device.run(LogSoftmax {
                logits,
                targets: &batch.targets,
                running: &mut *running,
                logp: &mut *logp,
                entropy: &mut *entropy,
                lse: &mut *lse,
                rows: block.len() as u32,
                cols: chunk.columns as u32,
                stride: stride(weight.rows()) as u32,
                first_row: block.start as u32,
                first_col: chunk.first_id as u32,
            });
        }
    }
}

/// `dhidden` `[positions, hidden]`, and the weight's gradient where it is trained, of `dlogp` `[positions]`. It takes the
/// chunks last first: the last one's logits are still there.
pub fn backward(
    input: LmHeadInput,
    weight: &mut Parameter,
    saved: &mut LmHeadActivations,
    dlogp: &Tensor,
    dhidden: &mut Tensor,
) {
    let LmHeadActivations { lse, logits, held, .. } = saved;
    let LmHeadInput { device, batch, hidden } = input;
    let (stride, width) = (stride(weight.rows()), weight.cols());
    for block in blocks(batch.positions).rev() {
        let (first_row, rows) = (block.start, block.len());
        for (taken, chunk) in chunks(weight).iter().rev().enumerate() {
            if held.take() != Some([block.start, chunk.first_id]) {
                compute_logits(input, weight, chunk, &block, logits);
            }
            device.run(LogSoftmaxBackward {
                targets: &batch.targets,
                lse,
                dlogp,
                logits,
                rows: block.len() as u32,
                cols: chunk.columns as u32,
                stride: stride as u32,
                first_row: block.start as u32,
                first_col: chunk.first_id as u32,
            });
            let dlogits = Operand::whole(logits, stride);
            let columns = chunk.columns.next_multiple_of(4);
            let shard = &mut weight.shards_mut()[chunk.shard];
            let dh = Product {
                layout: Layout::Nn,
                rows,
                cols: width,
                inner: columns,
                a: dlogits,
                b: Operand::whole(&shard.weight, width).from_row(chunk.first_row),
                c: OperandMut::whole(dhidden, width).from_row(first_row),
                accumulate: taken > 0,
            };
            Matmul::run(device, dh);
            if let Some(gradient) = &mut shard.gradient {
                let dw = Product {
                    layout: Layout::Tn,
                    rows: columns,
                    cols: width,
                    inner: rows,
                    a: dlogits,
                    b: Operand::whole(hidden, width).from_row(first_row),
                    c: OperandMut::whole(gradient, width).from_row(chunk.first_row),
                    accumulate: true,
                };
                Matmul::run(device, dw);
            }
        }
    }
}

/// One chunk of logits of a block of positions. Columns after the vocabulary's end come from the rows of zeros that fill the
/// last shard up.
fn compute_logits(input: LmHeadInput, weight: &Parameter, chunk: &Chunk, block: &Range<usize>, logits: &mut Tensor) {
    let LmHeadInput { device, hidden, .. } = input;
    let width = weight.cols();
    let product = Product {
        layout: Layout::Nt,
        rows: block.len(),
        cols: chunk.columns.next_multiple_of(4),
        inner: width,
        a: Operand::whole(hidden, width).from_row(block.start),
        b: Operand::whole(&weight.shards()[chunk.shard].weight, width).from_row(chunk.first_row),
        c: OperandMut::whole(logits, stride(weight.rows())),
        accumulate: false,
    };
    Matmul::run(device, product);
}
