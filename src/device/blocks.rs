//! Matrices in blocks: a few bits a value, and a scale for each block of values that follow one another, row after row.

use half::f16;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::block_dots::{Bytes, Places, block_dots};
use super::dots::Dots;
use super::nf4::{self, nearest};
use super::vectorized::vectorized;

/// Words of values in a block; the scale, an f32, is the word behind them.
const VALUE_WORDS: usize = 8;
const BLOCK_WORDS: usize = VALUE_WORDS + 1;
type Block = [u32; BLOCK_WORDS];

/// The types that are stored in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockType {
    /// 32 signed bytes between -127 and 127, four to a word, the first lowest; the scale is an f16's, the largest magnitude
    /// over 127: llama.cpp's Q8_0.
    Q8,
    /// 64 places in [`NF4`](super::nf4::NF4), eight to a word, the first lowest; the scale is the largest magnitude: QLoRA's 4 bits.
    Q4,
}

impl BlockType {
    /// The values of a block.
    pub const fn len(self) -> usize {
        match self {
            Self::Q8 => 32,
            Self::Q4 => 64,
        }
    }

    /// The words of so many values: of whole blocks, the last of which may have fewer.
    pub fn words(self, values: usize) -> usize {
        values.div_ceil(self.len()) * BLOCK_WORDS
    }

    /// Values in blocks, from the first of one on. A block with a value that is not finite is NaN throughout, so that what is
    /// computed from it shows.
    pub fn pack(self, values: &[f32]) -> Vec<u32> {
        let blocks = values.par_chunks(self.len()).map(|values| {
            let mut block = [0; BLOCK_WORDS];
            let (words, scale) = block.split_at_mut(VALUE_WORDS);
            let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            let is_finite = values.iter().all(|value| value.is_finite());
            let stored = match self {
                Self::Q8 => pack_q8(values, largest, words),
                Self::Q4 => pack_q4(values, largest, words),
            };
            scale[0] = if is_finite { stored } else { f32::NAN }.to_bits();
            block
        });
        blocks.collect::<Vec<_>>().into_flattened()
    }

    /// The values from element `first` on.
    pub fn unpack(self, words: &[u32], first: usize, values: &mut [f32]) {
        let (blocks, _) = words.as_chunks();
        let (blocks, start) = (&blocks[first / self.len()..], first % self.len());
        match self {
            Self::Q8 => unpack_blocks(blocks, start, values, unpack_q8),
            Self::Q4 => unpack_blocks(blocks, start, values, nf4::unpack),
        }
    }

    /// The dot products with rows that are stored in blocks, from element `first` on; whether this processor has a way that does
    /// not unpack them first.
    #[cfg(target_arch = "x86_64")]
    pub fn dots(self, words: &[u32], first: usize, dots: Dots<f32>) -> bool {
        let is_whole = first.is_multiple_of(self.len()) && dots.inner.is_multiple_of(self.len());
        let Some(vectors) = pulp::x86::V3::try_new().filter(|_| is_whole) else { return false };
        let w = &words.as_chunks().0[first / self.len()..];
        match self {
            Self::Q8 => block_dots(vectors, Bytes, w, dots),
            Self::Q4 => block_dots(vectors, Places, w, dots),
        }
        true
    }

    /// As above: other processors have none.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn dots(self, _: &[u32], _: usize, _: Dots<f32>) -> bool {
        false
    }
}

/// The values of blocks of `N`, from one in the first on.
fn unpack_blocks<const N: usize>(
    blocks: &[Block],
    start: usize,
    values: &mut [f32],
    unpack: impl Fn(&[u32; VALUE_WORDS], f32, &mut [f32; N]),
) {
    vectorized(
        #[inline(always)]
        || {
            let (before, after) = values.split_at_mut((N - start).min(values.len()) % N);
            let skipped = usize::from(!before.is_empty());
            let (whole, after) = after.as_chunks_mut::<N>();
            let mut part = [0.0; N];
            for (i, values) in whole.iter_mut().enumerate() {
                let [words @ .., scale] = &blocks[skipped + i];
                unpack(words, f32::from_bits(*scale), values);
            }
            for (values, place, start) in [(before, 0, start), (after, skipped + whole.len(), 0)] {
                if !values.is_empty() {
                    let [words @ .., scale] = &blocks[place];
                    unpack(words, f32::from_bits(*scale), &mut part);
                    values.copy_from_slice(&part[start..start + values.len()]);
                }
            }
        },
    );
}

/// As the Python package `gguf` rounds: by the scale before it is an f16, halves away from zero.
fn pack_q8(values: &[f32], largest: f32, words: &mut [u32]) -> f32 {
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for (i, value) in values.iter().enumerate() {
        let byte = (value * inverse).round() as i8 as u8;
        words[i / 4] |= u32::from(byte) << (8 * (i % 4));
    }
    f16::from_f32(scale).to_f32()
}

/// The nearest of [`NF4`](super::nf4::NF4).
fn pack_q4(values: &[f32], largest: f32, words: &mut [u32]) -> f32 {
    let inverse = if largest == 0.0 { 0.0 } else { 1.0 / largest };
    for (i, value) in values.iter().enumerate() {
        words[i / 8] |= nearest((value * inverse).clamp(-1.0, 1.0)) << (4 * (i % 8));
    }
    largest
}

#[inline(always)] // so that it is compiled with the processor's features
fn unpack_q8(words: &[u32; VALUE_WORDS], scale: f32, values: &mut [f32; 32]) {
    let mut bytes = *words;
    for word in &mut bytes {
        *word = word.to_le();
    }
    let bytes: [i8; 4 * VALUE_WORDS] = pulp::cast(bytes);
    for i in 0..bytes.len() {
        values[i] = scale * f32::from(bytes[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::nf4::NF4;

    fn unpacked(blocks: BlockType, values: &[f32]) -> Vec<f32> {
        let mut unpacked = vec![0.0; values.len()];
        blocks.unpack(&blocks.pack(values), 0, &mut unpacked);
        unpacked
    }

    #[test]
    fn what_a_block_can_hold_comes_back() {
        let q4: Vec<f32> = (0..80).map(|i| if i < 64 { 0.75 * NF4[i * 7 % 16] } else { 3.0 * NF4[i % 16] }).collect();
        assert_eq!(unpacked(BlockType::Q4, &q4), q4);
        let q8: Vec<f32> =
            (0..40).map(|i| 0.5 * if i % 32 == 0 { 127.0 } else { (i * 5 % 255 - 127) as f32 }).collect();
        assert_eq!(unpacked(BlockType::Q8, &q8), q8);
        for blocks in [BlockType::Q8, BlockType::Q4] {
            assert_eq!(unpacked(blocks, &[0.0; 70]), [0.0; 70]);
            // From any element on.
            let values: Vec<f32> = (0..200).map(|i| (i as f32 * 0.7).sin()).collect();
            let (words, all) = (blocks.pack(&values), unpacked(blocks, &values));
            for (first, count) in [(0, 200), (4, 1), (60, 8), (64, 64), (100, 100), (199, 1)] {
                let mut part = vec![0.0f32; count];
                blocks.unpack(&words, first, &mut part);
                assert!(part.iter().zip(&all[first..]).all(|(a, b)| a == b), "{blocks:?} from {first}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        for blocks in [BlockType::Q8, BlockType::Q4] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = [0.25; 130];
                values[70] = bad;
                let unpacked = unpacked(blocks, &values);
                let block = 70 / blocks.len();
                for (i, value) in unpacked.iter().enumerate() {
                    assert_eq!(value.is_nan(), i / blocks.len() == block, "{blocks:?}, {bad}, {i}: {value}");
                }
            }
        }
    }
}
