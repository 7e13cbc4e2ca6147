//! Matrices in blocks: a few bits a value, and a scale for each block of values that follow one another, row after row.

#[cfg(target_arch = "x86_64")]
use std::borrow::Cow;

use half::f16;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::block_dots::{Bytes, Codes, Places, ScaledCodes, ShiftedCodes, block_dots, in_order_of_places};
use super::file_blocks::{
    Q4_0_WORDS, Q4_K_WORDS, Q6_K_WORDS, repack_q4_0, repack_q4_k, repack_q6_k, repack_q8_0, repacked, unpack_q4_0,
    unpack_q4_k, unpack_q6_k,
};
use super::matrix::Rows;
use super::nf4::{self, nearest};
use super::vectorized::vectorized;

/// Words of values in a block that is made here; the scale, an f32, is the word behind them.
const VALUE_WORDS: usize = 8;
const BLOCK_WORDS: usize = VALUE_WORDS + 1;

/// The types that are stored in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockType {
    /// 32 signed bytes between -127 and 127, four to a word, the first lowest; the scale is an f16's, the largest magnitude
    /// over 127: llama.cpp's Q8_0.
    Q8,
    /// 64 places in [`NF4`](super::nf4::NF4), eight to a word, the first lowest; the scale is the largest magnitude: QLoRA's 4 bits.
    Q4,
    /// llama.cpp's Q4_0: a scale times codes less 8. As the next two it is read from files and never made of values.
    Q40,
    /// llama.cpp's Q4_K: codes times a scale, less a minimum.
    Q4K,
    /// llama.cpp's Q6_K: a scale times codes less 32.
    Q6K,
}

impl BlockType {
    /// The values of a block.
    pub const fn len(self) -> usize {
        match self {
            Self::Q8 | Self::Q40 => 32,
            Self::Q4 => 64,
            Self::Q4K | Self::Q6K => 256,
        }
    }

    /// The words of so many values: of whole blocks, the last of which may have fewer.
    pub fn words(self, values: usize) -> usize {
        let of_block = match self {
            Self::Q8 | Self::Q4 => BLOCK_WORDS,
            Self::Q40 => Q4_0_WORDS,
            Self::Q4K => Q4_K_WORDS,
            Self::Q6K => Q6_K_WORDS,
        };
        values.div_ceil(self.len()) * of_block
    }

    /// The bytes of a block in llama.cpp's files, where these have the type.
    pub const fn file_bytes(self) -> Option<usize> {
        match self {
            Self::Q8 => Some(34),
            Self::Q4 => None,
            Self::Q40 => Some(18),
            Self::Q4K => Some(144),
            Self::Q6K => Some(210),
        }
    }

    /// Blocks of a file; `None` where files have none of the type.
    pub fn repack(self, raw: &[u8]) -> Option<Vec<u32>> {
        Some(match self {
            Self::Q8 => repacked(raw, repack_q8_0),
            Self::Q4 => return None,
            Self::Q40 => repacked(raw, repack_q4_0),
            Self::Q4K => repacked(raw, repack_q4_k),
            Self::Q6K => repacked(raw, repack_q6_k),
        })
    }

    /// Values in blocks, from the first of one on; `None` where there is no way to make them. A block with a value that is not
    /// finite is NaN throughout, so that what is computed from it shows.
    pub fn pack(self, values: &[f32]) -> Option<Vec<u32>> {
        let pack = match self {
            Self::Q8 => pack_q8,
            Self::Q4 => pack_q4,
            Self::Q40 | Self::Q4K | Self::Q6K => return None,
        };
        let blocks = values.par_chunks(self.len()).map(|values| {
            let mut block = [0; BLOCK_WORDS];
            let (words, scale) = block.split_at_mut(VALUE_WORDS);
            let is_finite = values.iter().all(|value| value.is_finite());
            let stored = pack(values, largest_of(values), words);
            scale[0] = if is_finite { stored } else { f32::NAN }.to_bits();
            block
        });
        Some(blocks.collect::<Vec<_>>().into_flattened())
    }

    /// The values from element `first` on.
    pub fn unpack(self, words: &[u32], first: usize, values: &mut [f32]) {
        match self {
            Self::Q8 => unpack_blocks(words, first, values, unpack_q8),
            Self::Q4 => unpack_blocks(words, first, values, unpack_q4),
            Self::Q40 => unpack_blocks(words, first, values, unpack_q4_0),
            Self::Q4K => unpack_blocks(words, first, values, unpack_q4_k),
            Self::Q6K => unpack_blocks(words, first, values, unpack_q6_k),
        }
    }

    /// The dot products of rows of x with rows in blocks that follow one another from element `first` on, where this processor has a
    /// way that does not unpack them first: `dots(c, y)` has those with the rows from `c` on, each by all of x.
    #[cfg(target_arch = "x86_64")]
    pub fn dots(self, words: &[u32], first: usize, rows: Rows<f32>) -> Option<impl Fn(usize, &mut [f32]) + Sync> {
        let inner = rows.inner;
        let is_whole = first.is_multiple_of(self.len()) && inner.is_multiple_of(self.len());
        let vectors = pulp::x86::V3::try_new().filter(|_| is_whole)?;
        let (x, stride) = match self {
            Self::Q4 => (Cow::Owned(in_order_of_places(vectors, rows)), inner),
            _ => (Cow::Borrowed(rows.x), rows.stride),
        };
        Some(move |c: usize, y: &mut [f32]| {
            let w = &words[self.words(first + c * inner)..];
            let rows = Rows { x: &x, stride, ..rows };
            match self {
                Self::Q8 => block_dots(vectors, Bytes, w, rows, y),
                Self::Q4 => block_dots(vectors, Places, w, rows, y),
                Self::Q40 => block_dots(vectors, Codes, w, rows, y),
                Self::Q4K => block_dots(vectors, ShiftedCodes, w, rows, y),
                Self::Q6K => block_dots(vectors, ScaledCodes, w, rows, y),
            }
        })
    }

    /// As above: other processors have none.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn dots(self, _: &[u32], _: usize, _: Rows<f32>) -> Option<impl Fn(usize, &mut [f32]) + Sync> {
        None::<fn(usize, &mut [f32])>
    }
}

/// The values of blocks of `N` in `WORDS`, from element `first` on.
fn unpack_blocks<const N: usize, const WORDS: usize>(
    words: &[u32],
    first: usize,
    values: &mut [f32],
    unpack: impl Fn(&[u32; WORDS], &mut [f32; N]),
) {
    let (blocks, start) = (&words.as_chunks().0[first / N..], first % N);
    vectorized(
        #[inline(always)]
        || {
            let (before, after) = values.split_at_mut((N - start).min(values.len()) % N);
            let skipped = usize::from(!before.is_empty());
            let (whole, after) = after.as_chunks_mut::<N>();
            let mut part = [0.0; N];
            for (i, values) in whole.iter_mut().enumerate() {
                unpack(&blocks[skipped + i], values);
            }
            for (values, place, start) in [(before, 0, start), (after, skipped + whole.len(), 0)] {
                if !values.is_empty() {
                    unpack(&blocks[place], &mut part);
                    values.copy_from_slice(&part[start..start + values.len()]);
                }
            }
        },
    );
}

/// Values in blocks of Q8_0 as llama.cpp's files have them: an f16 and 32 bytes each.
pub fn pack_q8_0(values: &[f32]) -> Vec<u8> {
    let blocks = values.chunks(BlockType::Q8.len()).flat_map(|values| {
        let mut words = [0; VALUE_WORDS];
        let scale = pack_q8(values, largest_of(values), &mut words);
        let bytes = words.into_iter().flat_map(u32::to_le_bytes);
        f16::from_f32(scale).to_le_bytes().into_iter().chain(bytes)
    });
    blocks.collect()
}

fn largest_of(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
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
fn unpack_q8([words @ .., scale]: &[u32; BLOCK_WORDS], values: &mut [f32; 32]) {
    let (mut bytes, scale) = (*words, f32::from_bits(*scale));
    for word in &mut bytes {
        *word = word.to_le();
    }
    let bytes: [i8; 4 * VALUE_WORDS] = pulp::cast(bytes);
    for i in 0..bytes.len() {
        values[i] = scale * f32::from(bytes[i]);
    }
}

#[inline(always)] // as above
fn unpack_q4([words @ .., scale]: &[u32; BLOCK_WORDS], values: &mut [f32; 64]) {
    nf4::unpack(words, f32::from_bits(*scale), values);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::nf4::NF4;

    fn unpacked(blocks: BlockType, values: &[f32]) -> Vec<f32> {
        let mut unpacked = vec![0.0; values.len()];
        blocks.unpack(&blocks.pack(values).unwrap(), 0, &mut unpacked);
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
            let (words, all) = (blocks.pack(&values).unwrap(), unpacked(blocks, &values));
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
