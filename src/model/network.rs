//! The two networks: the policy (decoder and LM head) and the value network (decoder and value head).

use anyhow::{Result, ensure};

use super::build::{Base, Build};
use super::cache::InCache;
use super::decoder::{Activations, Decoder, Scratch};
use super::keep::Keep;
use super::lm_head::{self, LmHeadActivations, LmHeadInput};
use super::parameter::Parameter;
use super::pass::Finished;
use crate::data::DeviceBatch;
use crate::device::Tensor;
use crate::kernels::{BLOCK_ROWS, ColumnSum, ValueHead, ValueHeadBackward};

/// A language model.
pub struct Policy {
    decoder: Decoder,
    /// `None`: the head is the embedding.
    lm_head: Option<Parameter>,
}

/// What the policy's forward pass leaves.
pub struct PolicyActivations {
    decoder: Activations,
    /// Log-probs and entropies.
    pub head: LmHeadActivations,
    /// `[positions, hidden]`; only for a backward pass.
    dhidden: Option<Tensor>,
}

impl PolicyActivations {
    /// Room for a batch.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize, positions: usize, keep: Keep) -> Result<Self> {
        let dhidden = || build.activation("dhidden", &[positions, build.config.hidden_size]);
        Ok(Self {
            decoder: Activations::new(build, tokens, positions, keep)?,
            head: LmHeadActivations::new(build, positions)?,
            dhidden: if keep == Keep::Nothing { None } else { Some(dhidden()?) },
        })
    }
}

impl Policy {
    /// Reads a `*ForCausalLM` directory's weights.
    ///
    /// # Errors
    /// Where it is a value network, or a tensor is missing, superfluous, of another shape, or has no room.
    pub fn load(build: &Build, positions: usize) -> Result<Self> {
        let config = build.config;
        if let Some(architecture) = config.architecture() {
            ensure!(
                architecture.ends_with("ForCausalLM"),
                "config.json: architectures is {architecture}, and a policy is a *ForCausalLM; \
                 a value network goes with --value-model"
            );
        }
        if let Some(adapter) = build.adapter() {
            adapter.need_policy()?;
        }
        let decoder = Decoder::load(build, positions)?;
        let lm_head = if config.tie_word_embeddings {
            None
        } else {
            Some(build.parameter(LM_HEAD, &[config.vocab_size, config.hidden_size])?)
        };
        build.refuse_unread(if config.tie_word_embeddings { &[LM_HEAD] } else { &[] })?;
        Ok(Self { decoder, lm_head })
    }

    /// Log-probs and entropies of the batch's actions, in `activations.head`.
    pub fn forward(&self, batch: &DeviceBatch, activations: &mut PolicyActivations, scratch: &mut Scratch) {
        let PolicyActivations { decoder, head, .. } = activations;
        self.decoder.forward(batch, None, decoder, scratch);
        let input = LmHeadInput { device: &self.decoder.device, batch, hidden: &decoder.hidden };
        lm_head::forward(input, self.head(), head);
    }

    /// Keeps the keys and values of a batch's tokens in a cache, and nothing else.
    pub fn prefill(&self, batch: &DeviceBatch, cache: InCache, activations: &mut Activations, scratch: &mut Scratch) {
        self.decoder.forward(batch, Some(cache), activations, scratch);
    }

    /// `logits[row] = W hidden`, `[rows, vocabulary filled up to a multiple of 4]`, of the newest tokens of sequences whose
    /// earlier ones are in the cache.
    pub fn decode(
        &self,
        batch: &DeviceBatch,
        cache: InCache,
        activations: &mut Activations,
        scratch: &mut Scratch,
        logits: &mut Tensor,
    ) {
        self.decoder.decode(batch, cache, activations, scratch);
        self.head().multiply(&self.decoder.device, &activations.hidden, logits, batch.positions, false);
    }

    /// Adds to every weight's gradient what `dlogp` `[positions]` gives it; `finished` hears of each, as it is whole.
    ///
    /// # Panics
    /// Where activations or scratch were made for a forward pass alone.
    pub fn backward(
        &mut self,
        batch: &DeviceBatch,
        activations: &mut PolicyActivations,
        scratch: &mut Scratch,
        dlogp: &Tensor,
        finished: Finished,
    ) {
        let PolicyActivations { decoder, head, dhidden } = activations;
        let dhidden = dhidden.as_mut().expect("activations for a backward pass");
        let input = LmHeadInput { device: &self.decoder.device, batch, hidden: &decoder.hidden };
        let weight = self.lm_head.as_mut().unwrap_or(&mut self.decoder.embed_tokens);
        lm_head::backward(input, weight, head, dlogp, dhidden);
        finished(&mut self.lm_head.iter_mut());
        self.decoder.backward(batch, decoder, scratch, dhidden, finished);
    }

    /// `[vocabulary, hidden]`
    fn head(&self) -> &Parameter {
        self.lm_head.as_ref().unwrap_or(&self.decoder.embed_tokens)
    }

    /// The frozen weights, for another network to share.
    pub fn base(&mut self) -> Base {
        let frozen = self.parameters_mut().filter(|parameter| !parameter.is_trained());
        frozen.map(|parameter| (parameter.name().to_owned(), parameter.share())).collect()
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.decoder.parameters_mut().chain(&mut self.lm_head)
    }

    /// All weights, in the order in which a backward pass has finished their gradients.
    pub fn parameters_as_finished_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.lm_head.iter_mut().chain(self.decoder.parameters_as_finished_mut())
    }
}

pub(super) const LM_HEAD: &str = "lm_head.weight";
pub(super) const SCORE_WEIGHT: &str = "score.weight";
pub(super) const SCORE_BIAS: &str = "score.bias";

/// A value network: V of the state before each action.
pub struct Value {
    decoder: Decoder,
    /// `[1, hidden]`
    weight: Parameter,
    bias: ValueBias,
}

/// The value head's bias, `[1]`.
enum ValueBias {
    Weight(Parameter),
    /// 0, of a family whose value networks have none.
    Absent(Tensor),
}

impl ValueBias {
    fn load(build: &Build) -> Result<Self> {
        Ok(if build.config.value_head_has_bias() {
            Self::Weight(build.head(SCORE_BIAS, &[1])?)
        } else {
            Self::Absent(build.activation("no_bias", &[1])?)
        })
    }

    fn vector(&self) -> &Tensor {
        match self {
            Self::Weight(weight) => weight.vector(),
            Self::Absent(zero) => zero,
        }
    }

    fn parameter_mut(&mut self) -> Option<&mut Parameter> {
        match self {
            Self::Weight(weight) => Some(weight),
            Self::Absent(_) => None,
        }
    }
}

/// What the value network's forward pass leaves.
pub struct ValueActivations {
    decoder: Activations,
    /// `[positions]`: V of the state before each action.
    pub value: Tensor,
    /// `[sequences]`: V of the state after the last action, where it is in the batch.
    pub bootstrap: Tensor,
    /// `[sequences, hidden]`
    final_hidden: Tensor,
    /// `[positions, hidden]`; only for a backward pass.
    dhidden: Option<Tensor>,
}

impl ValueActivations {
    /// Room for a batch.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize, positions: usize, sequences: usize, keep: Keep) -> Result<Self> {
        let hidden = build.config.hidden_size;
        let dhidden = || build.activation("dhidden", &[positions, hidden]);
        Ok(Self {
            decoder: Activations::new(build, tokens, positions, keep)?,
            value: build.activation("value", &[positions])?,
            bootstrap: build.activation("bootstrap", &[sequences])?,
            final_hidden: build.activation("final_hidden", &[sequences, hidden])?,
            dhidden: if keep == Keep::Nothing { None } else { Some(dhidden()?) },
        })
    }
}

impl Value {
    /// Reads a directory's weights of the family's value network (`*ForTokenClassification`), or a policy's with a head of zeros.
    ///
    /// # Errors
    /// Where a tensor is missing, superfluous, of another shape, or has no room.
    pub fn load(build: &Build, positions: usize) -> Result<Self> {
        let decoder = Decoder::load(build, positions)?;
        let weight = build.head(SCORE_WEIGHT, &[1, build.config.hidden_size])?;
        let bias = ValueBias::load(build)?;
        build.refuse_unread(&[LM_HEAD])?;
        Ok(Self { decoder, weight, bias })
    }

    /// V of the states before the batch's actions and, where the batch has them, after the last ones.
    pub fn forward(&self, batch: &DeviceBatch, activations: &mut ValueActivations, scratch: &mut Scratch) {
        let ValueActivations { decoder, value, bootstrap, final_hidden, .. } = activations;
        self.decoder.forward(batch, None, decoder, scratch);
        self.head(&decoder.hidden, value, batch.positions);
        self.decoder.hidden_at(scratch, &batch.final_rows, batch.sequences, final_hidden);
        self.head(final_hidden, bootstrap, batch.sequences);
    }

    /// Adds to every weight's gradient what `dvalue` `[positions]` gives it; `finished` hears of each, as it is whole.
    ///
    /// # Panics
    /// Where activations or scratch were made for a forward pass alone.
    pub fn backward(
        &mut self,
        batch: &DeviceBatch,
        activations: &mut ValueActivations,
        scratch: &mut Scratch,
        dvalue: &Tensor,
        finished: Finished,
    ) {
        let ValueActivations { decoder, dhidden, .. } = activations;
        let dhidden = dhidden.as_mut().expect("activations for a backward pass");
        self.head_backward(&decoder.hidden, dvalue, dhidden, scratch.partial(), batch.positions);
        finished(&mut std::iter::once(&mut self.weight).chain(self.bias.parameter_mut()));
        self.decoder.backward(batch, decoder, scratch, dhidden, finished);
    }

    /// `value = w h + b` for `rows` rows.
    fn head(&self, h: &Tensor, value: &mut Tensor, rows: usize) {
        let (weight, bias) = (self.weight.vector(), self.bias.vector());
        let (rows, cols) = (rows as u32, weight.len() as u32);
        self.decoder.device.run(ValueHead { h, weight, bias, value, rows, cols });
    }

    /// `dh = dvalue w`, `dw += sum of dvalue h` and `db += sum of dvalue`.
    fn head_backward(&mut self, h: &Tensor, dvalue: &Tensor, dh: &mut Tensor, partial: &mut Tensor, rows: usize) {
        let (device, cols) = (&self.decoder.device, self.weight.cols());
        device.run(ValueHeadBackward {
            h,
            weight: self.weight.vector(),
            dvalue,
            dh,
            partial: &mut *partial,
            rows: rows as u32,
            cols: cols as u32,
            block_rows: BLOCK_ROWS as u32,
        });
        if let Some(gradient) = self.weight.vector_gradient() {
            ColumnSum::of_partial(device, partial, gradient, rows.div_ceil(BLOCK_ROWS), cols);
        }
        if let Some(gradient) = self.bias.parameter_mut().and_then(Parameter::vector_gradient) {
            ColumnSum::in_two_steps(device, dvalue, partial, gradient, rows, 1);
        }
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.decoder.parameters_mut().chain(std::iter::once(&mut self.weight)).chain(self.bias.parameter_mut())
    }

    /// All weights, in the order in which a backward pass has finished their gradients.
    pub fn parameters_as_finished_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let head = std::iter::once(&mut self.weight).chain(self.bias.parameter_mut());
        head.chain(self.decoder.parameters_as_finished_mut())
    }
}
