//! Keys and values of earlier tokens, so that a sequence grows by one token at the cost of one.

use anyhow::Result;

use super::build::Build;
use crate::device::{DType, Device, Tensor};
use crate::kernels::{AttentionCached, NONE, ScatterRows};

/// The keys and values of all layers. A place holds those of one token; a sequence's places follow each other.
pub struct Cache {
    pub(super) layers: Vec<LayerCache>,
    /// Scratch of every layer's attention: `[parts, sequences, heads, head_dim]`.
    pub(super) part_o: Tensor,
    /// Scratch of every layer's attention: `[parts, sequences, heads]`.
    pub(super) part_lse: Tensor,
}

/// A cache that a pass fills or reads, and where the tokens of the pass stand in it.
pub struct InCache<'a> {
    pub cache: &'a mut Cache,
    pub places: &'a CachePlaces,
}

/// A layer's keys and values.
pub struct LayerCache {
    /// `[places, kv_heads, head_dim]`, rotated
    pub k: Tensor,
    /// `[places, kv_heads, head_dim]`
    pub v: Tensor,
}

impl Cache {
    /// A cache of as many sequences of at most `tokens`, called `name` in memory plans.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, name: &str, sequences: usize, tokens: usize) -> Result<Self> {
        let heads = build.config.heads;
        let tensor = |part: &str, shape: &[usize]| {
            build.device.tensor(format!("{}/{name}/{part}", build.model), shape, DType::Real)
        };
        let of_layer = |layer: usize, part: &str| {
            tensor(&format!("{layer}/{part}"), &[sequences * tokens, heads.kv_heads, heads.head_dim])
        };
        let parts = AttentionCached::most_parts(tokens);
        let layer = |layer| Ok(LayerCache { k: of_layer(layer, "k")?, v: of_layer(layer, "v")? });
        Ok(Self {
            layers: (0..build.config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            part_o: tensor("part_o", &[parts, sequences, heads.heads, heads.head_dim])?,
            part_lse: tensor("part_lse", &[parts, sequences, heads.heads])?,
        })
    }

    /// Copies the first `count` places of another cache to `places` (see [`CachePlaces::places`]) of this one.
    pub fn copy_from(&mut self, device: &Device, other: &Cache, places: &Tensor, count: usize) {
        for (layer, other) in self.layers.iter_mut().zip(&other.layers) {
            layer.store(device, &other.k, &other.v, places, count);
        }
    }
}

impl LayerCache {
    /// Puts the first `count` keys and values, `[count, kv_heads, head_dim]` each, into their places.
    pub(super) fn store(&mut self, device: &Device, k: &Tensor, v: &Tensor, places: &Tensor, count: usize) {
        let (rows, cols) = (count as u32, self.k.shape()[1..].iter().product::<usize>() as u32);
        let (cached_k, cached_v) = (&mut self.k, &mut self.v);
        device.run(ScatterRows { index: places, k, v, cached_k, cached_v, rows, cols });
    }
}

/// Where the tokens of a pass stand in a cache, and what they see of it.
pub struct CachePlaces {
    /// `[tokens]`: the place of each token's keys and values.
    pub places: Tensor,
    /// What each token sees.
    pub seen: Seen,
    /// The same in layers that slide a window, where there are any.
    pub in_window: Option<Seen>,
    sliding_window: Option<usize>,
}

/// What the tokens of a pass see of a cache.
pub struct Seen {
    /// `[tokens, 2]`: the first place that each token sees, and how many it sees, itself included.
    pub spans: Tensor,
    /// The most places that a token sees.
    pub longest: usize,
}

impl Seen {
    /// Of the newest tokens of several sequences, at most `window` places each.
    fn load(&mut self, tokens: &[CachedToken], window: usize) -> Result<()> {
        let count = |token: &CachedToken| window.min(token.position + 1);
        let first = |token: &CachedToken| token.place() + 1 - count(token) as u32;
        self.longest = tokens.iter().map(count).max().unwrap_or(0);
        let spans: Vec<u32> = tokens.iter().flat_map(|token| [first(token), count(token) as u32]).collect();
        self.spans.write_u32(0, &spans)
    }
}

/// The newest token of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedToken {
    /// The first place of its sequence.
    pub first_place: usize,
    /// Its position in the sequence.
    pub position: usize,
}

impl CachedToken {
    fn place(self) -> u32 {
        (self.first_place + self.position) as u32
    }
}

impl CachePlaces {
    /// Room for `tokens` of a model with this `sliding_window`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(device: &Device, name: &str, tokens: usize, sliding_window: Option<usize>) -> Result<Self> {
        let tensor = |part: &str, shape: &[usize]| device.tensor(format!("{name}/{part}"), shape, DType::U32);
        let seen = |part: &str| -> Result<Seen> { Ok(Seen { spans: tensor(part, &[tokens, 2])?, longest: 0 }) };
        Ok(Self {
            places: tensor("places", &[tokens])?,
            seen: seen("spans")?,
            in_window: sliding_window.map(|_| seen("spans_in_window")).transpose()?,
            sliding_window,
        })
    }

    /// A whole new sequence, in the cache's first places.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn load_sequence(&mut self, tokens: usize) -> Result<()> {
        self.places.write_u32(0, &(0..tokens as u32).collect::<Vec<_>>())
    }

    /// The newest token of several sequences.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn load_newest(&mut self, tokens: &[CachedToken]) -> Result<()> {
        let places: Vec<u32> = tokens.iter().map(|token| token.place()).collect();
        self.places.write_u32(0, &places)?;
        self.seen.load(tokens, usize::MAX)?;
        if let (Some(in_window), Some(window)) = (&mut self.in_window, self.sliding_window) {
            in_window.load(tokens, window)?;
        }
        Ok(())
    }

    /// The places that `count` tokens of another cache are copied to, from `first` on; see [`Cache::copy_from`].
    ///
    /// # Errors
    /// Where the device fails.
    pub fn load_copy(&mut self, first: usize, count: usize) -> Result<()> {
        debug_assert!(first + count < NONE as usize);
        self.places.write_u32(0, &(first as u32..(first + count) as u32).collect::<Vec<_>>())
    }
}
