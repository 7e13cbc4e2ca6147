//! Batched decoding. A finished sequence makes room for the next at once; what a sequence becomes depends on the seed, its
//! prompt and its number alone, not on the sequences beside it.

use anyhow::{Result, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::settings::SamplingSettings;
use crate::data::{Capacity, DeviceBatch, Example, NewestToken, Sequence};
use crate::device::{DType, Device, Tensor};
use crate::kernels::{FEW_ROWS, SampleToken};
use crate::model::{Activations, Build, Cache, CachePlaces, CachedToken, InCache, Keep, Policy, Scratch};

/// Sequences that are decoded together at most. (More rows would be multiplied another way, with other rounding.)
pub const MAX_BATCH: usize = FEW_ROWS;

/// A response that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// At least one token. Requests with the same prompt that follow each other share its prefill.
    pub prompt_ids: Vec<u32>,
    pub seed: u64,
    /// What the draws depend on beside the seed: a number of the caller's for each response.
    pub stream: u64,
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It has an end token.
    Stop,
    /// It reached the most tokens that were allowed.
    Length,
}

impl Finish {
    /// As a row's `finish_reason` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// A finished response.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The number of its request, in the order they were given.
    pub request: usize,
    /// The end token included.
    pub completion_ids: Vec<u32>,
    /// Log-prob of each token under the whole distribution at temperature 1.
    pub logps: Vec<f64>,
    pub finish: Finish,
}

/// What a generator has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Sequences that are decoded together.
    pub batch: usize,
    /// Tokens of the longest prompt.
    pub prompt: usize,
    /// Tokens of the longest prompt and its response.
    pub tokens: usize,
}

impl Sizes {
    /// Room for either of two.
    pub fn max(self, other: Self) -> Self {
        Self {
            batch: self.batch.max(other.batch),
            prompt: self.prompt.max(other.prompt),
            tokens: self.tokens.max(other.tokens),
        }
    }
}

/// The memory that generation takes beside a policy, and the loop that writes with one.
pub struct Generator {
    device: Device,
    sizes: Sizes,
    vocab_size: usize,
    stop_ids: Vec<u32>,
    /// Of the sequences, each with `sizes.tokens` places.
    cache: Cache,
    /// Of one prompt but its last token, to copy from.
    prompt_cache: Cache,
    places: CachePlaces,
    prompt_places: CachePlaces,
    batch: DeviceBatch,
    prompt_batch: DeviceBatch,
    activations: Activations,
    scratch: Scratch,
    logits: Tensor,
    uniforms: Tensor,
    tokens: Tensor,
    logp: Tensor,
}

/// A sequence that is being written.
struct Active {
    request: usize,
    /// Which part of the cache is its own.
    slot: usize,
    /// What the next step takes in.
    newest: NewestToken,
    rng: ChaCha8Rng,
    completion_ids: Vec<u32>,
    logps: Vec<f64>,
}

impl Generator {
    /// Everything that generation takes beside the policy of `build`, which must have been loaded for sequences of
    /// `sizes.tokens`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, stop_ids: Vec<u32>, sizes: Sizes) -> Result<Self> {
        let Sizes { batch, prompt, tokens } = sizes;
        assert!((1..=MAX_BATCH).contains(&batch), "a batch of {batch}");
        let device = build.device;
        // One pass takes a whole prompt, or the newest token of every sequence.
        let rows = batch.max(prompt);
        let (vocab_size, sliding_window) = (build.config.vocab_size, build.config.layers.sliding_window);
        let real = |name: &str, shape: &[usize]| device.tensor(format!("batch/{name}"), shape, DType::Real);
        let room = |tokens, positions| Capacity { tokens, positions, sequences: 1, longest: tokens };
        Ok(Self {
            device: device.clone(),
            sizes,
            vocab_size,
            stop_ids,
            cache: Cache::new(build, "cache", batch, tokens)?,
            prompt_cache: Cache::new(build, "prompt_cache", 1, prompt)?,
            places: CachePlaces::new(device, "batch", batch, sliding_window)?,
            prompt_places: CachePlaces::new(device, "batch/prompt", prompt, sliding_window)?,
            batch: DeviceBatch::new(device, room(batch, batch))?,
            prompt_batch: DeviceBatch::new(device, room(prompt, 0))?,
            activations: Activations::new(build, rows, batch, Keep::Nothing)?,
            scratch: Scratch::new(build, rows, Keep::Nothing)?,
            logits: real("logits", &[batch, vocab_size.next_multiple_of(4)])?,
            uniforms: real("uniforms", &[batch])?,
            tokens: device.tensor("batch/tokens", &[batch], DType::U32)?,
            logp: real("logp", &[batch])?,
        })
    }

    /// What it has room for.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Writes a response to each request. `step` gets every new token with the number of its request, `finished` each
    /// response when it is whole; where one returns false the rest is left unwritten.
    ///
    /// # Errors
    /// Where the device fails, a log-prob is not finite, or a closure fails.
    pub fn run(
        &mut self,
        policy: &Policy,
        requests: impl IntoIterator<Item = Request>,
        settings: &SamplingSettings,
        mut step: impl FnMut(usize, u32) -> Result<bool>,
        mut finished: impl FnMut(Generated) -> Result<bool>,
    ) -> Result<()> {
        let mut requests = requests.into_iter().enumerate();
        let mut free: Vec<usize> = (0..self.sizes.batch).rev().collect();
        let mut active: Vec<Active> = Vec::new();
        let mut prefilled: Vec<u32> = Vec::new();
        loop {
            while let Some(slot) = free.pop() {
                let Some((number, request)) = requests.next() else {
                    free.push(slot);
                    break;
                };
                if prefilled != request.prompt_ids {
                    self.prefill(policy, &request.prompt_ids)?;
                    prefilled.clone_from(&request.prompt_ids);
                }
                active.push(self.join(number, request, slot)?);
            }
            if active.is_empty() {
                return Ok(());
            }
            self.step(policy, &mut active, settings)?;
            let mut index = 0;
            while index < active.len() {
                if !step(active[index].request, active[index].newest.id)? {
                    return Ok(());
                }
                let Some(finish) = self.finish_of(&active[index], settings) else {
                    index += 1;
                    continue;
                };
                let Active { request, slot, completion_ids, logps, .. } = active.remove(index);
                free.push(slot);
                if !finished(Generated { request, completion_ids, logps, finish })? {
                    return Ok(());
                }
            }
        }
    }

    /// Fills the prompt's cache: with all tokens but the last, which the first step takes in.
    fn prefill(&mut self, policy: &Policy, prompt_ids: &[u32]) -> Result<()> {
        assert!(!prompt_ids.is_empty() && prompt_ids.len() <= self.sizes.prompt, "a prompt of {}", prompt_ids.len());
        let example = Example::of_ids(prompt_ids.to_vec(), Vec::new());
        let sequence = Sequence { example: &example, bootstrapped: false };
        if sequence.tokens() == 0 {
            return Ok(());
        }
        self.prompt_batch.load(&[sequence])?;
        self.prompt_places.load_sequence(sequence.tokens())?;
        let Self { prompt_batch, prompt_cache, prompt_places, activations, scratch, .. } = self;
        let cache = InCache { cache: prompt_cache, places: prompt_places };
        policy.prefill(prompt_batch, cache, activations, scratch);
        Ok(())
    }

    /// A new sequence with the prompt that was prefilled last.
    fn join(&mut self, number: usize, request: Request, slot: usize) -> Result<Active> {
        let position = request.prompt_ids.len() - 1;
        if position > 0 {
            self.prompt_places.load_copy(slot * self.sizes.tokens, position)?;
            self.cache.copy_from(&self.device, &self.prompt_cache, &self.prompt_places.places, position);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(request.seed);
        rng.set_stream(request.stream);
        let newest = NewestToken { id: request.prompt_ids[position], position };
        Ok(Active { request: number, slot, newest, rng, completion_ids: Vec::new(), logps: Vec::new() })
    }

    /// A token more for every sequence.
    fn step(&mut self, policy: &Policy, active: &mut [Active], settings: &SamplingSettings) -> Result<()> {
        let rows = active.len();
        let newest: Vec<NewestToken> = active.iter().map(|active| active.newest).collect();
        let in_cache = |active: &Active| CachedToken {
            first_place: active.slot * self.sizes.tokens,
            position: active.newest.position,
        };
        let in_cache: Vec<CachedToken> = active.iter().map(in_cache).collect();
        self.batch.load_newest(&newest)?;
        self.places.load_newest(&in_cache)?;
        let uniforms: Vec<f64> = active.iter_mut().map(|active| f64::from(active.rng.random::<f32>())).collect();
        self.uniforms.write(0, uniforms.into_iter())?;

        let Self { device, batch, cache, places, activations, scratch, logits, .. } = self;
        policy.decode(batch, InCache { cache, places }, activations, scratch, logits);
        device.run(SampleToken {
            logits,
            uniforms: &self.uniforms,
            tokens: &mut self.tokens,
            logp: &mut self.logp,
            rows: rows as u32,
            cols: self.vocab_size as u32,
            stride: self.vocab_size.next_multiple_of(4) as u32,
            inverse_temperature: if settings.temperature > 0.0 { (1.0 / settings.temperature) as f32 } else { 0.0 },
            top_k: settings.top_k,
            top_p: settings.top_p as f32,
            min_prob: settings.min_prob as f32,
        });
        let [tokens, logps] = self.device.read([(&self.tokens, rows), (&self.logp, rows)])?;
        ensure!(
            logps.iter().all(|logp| logp.is_finite()),
            "a log-prob is not finite: are the weights damaged, or sizes or constants of config.json (rms_norm_eps, rope) not \
             the model's?"
        );
        for ((active, token), logp) in active.iter_mut().zip(tokens).zip(logps) {
            active.newest = NewestToken { id: token as u32, position: active.newest.position + 1 };
            active.completion_ids.push(token as u32);
            active.logps.push(logp);
        }
        Ok(())
    }

    fn finish_of(&self, active: &Active, settings: &SamplingSettings) -> Option<Finish> {
        let NewestToken { id, position } = active.newest;
        if self.stop_ids.contains(&id) {
            return Some(Finish::Stop);
        }
        let full = active.completion_ids.len() >= settings.max_new_tokens || position + 1 >= self.sizes.tokens;
        full.then_some(Finish::Length)
    }
}
