//! llama.cpp's blocks: a few bits a value with scales that several values share, as files have them.

use half::f16;

use crate::device::{DType, scales_and_minima};

/// The block formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl BlockFormat {
    /// The values of a block.
    pub fn values(self) -> usize {
        match self {
            Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q5K => 256,
            _ => self.of_device().block_len(),
        }
    }

    /// The bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q5K => 176,
            _ => self.of_device().file_block_bytes().expect("files have the type"),
        }
    }

    /// The type by which a device keeps such blocks as they are; `None` where its kernels have none.
    pub fn kept(self) -> Option<DType> {
        match self {
            Self::Q8_0 => Some(DType::Q8),
            Self::Q4_0 => Some(DType::Q40),
            Self::Q4K => Some(DType::Q4K),
            Self::Q6K => Some(DType::Q6K),
            Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q5K => None,
        }
    }

    fn of_device(self) -> DType {
        self.kept().expect("a format that this file does not unpack is a device's")
    }

    /// The values of blocks, in f32 and in the order of operations of the Python package `gguf`.
    ///
    /// # Panics
    /// Where these are not whole blocks and as many values.
    pub fn unpack(self, blocks: &[u8], values: &mut [f32]) {
        let unpack = match self {
            Self::Q4_1 => unpack_q4_1,
            Self::Q5_0 => unpack_q5_0,
            Self::Q5_1 => unpack_q5_1,
            Self::Q5K => unpack_q5_k,
            _ => return self.of_device().unpack_file_blocks(blocks, values),
        };
        let blocks = blocks.chunks_exact(self.bytes());
        blocks.zip(values.chunks_exact_mut(self.values())).for_each(|(block, values)| unpack(block, values));
    }
}

fn unpack_q4_1(block: &[u8], values: &mut [f32]) {
    let (scale, least, codes) = (half_at(block, 0), half_at(block, 2), &block[4..]);
    fill(values, |i| scale * f32::from(nibble(codes, i, 32)) + least);
}

fn unpack_q5_0(block: &[u8], values: &mut [f32]) {
    let (scale, high, codes) = (half_at(block, 0), &block[2..6], &block[6..]);
    fill(values, |i| scale * (f32::from(nibble(codes, i, 32) | bit(high, i) << 4) - 16.0));
}

fn unpack_q5_1(block: &[u8], values: &mut [f32]) {
    let (scale, least, high, codes) = (half_at(block, 0), half_at(block, 2), &block[4..8], &block[8..]);
    fill(values, |i| scale * f32::from(nibble(codes, i, 32) | bit(high, i) << 4) + least);
}

/// Eight parts, each with a scale and a least value of six bits, which the block scales.
fn unpack_q5_k(block: &[u8], values: &mut [f32]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    let (high, codes) = (&block[16..48], &block[48..]);
    let parts = scales_and_minima(&block[4..16]);
    let parts = parts.map(|[of_scale, of_least]| [scale * f32::from(of_scale), least * f32::from(of_least)]);
    fill(values, |i| {
        let [scale, least] = parts[i / 32];
        // Bit j of byte i is the highest of value i of part j.
        scale * f32::from(nibble(codes, i, 64) | (high[i % 32] >> (i / 32) & 1) << 4) - least
    });
}

fn fill(values: &mut [f32], value: impl Fn(usize) -> f32) {
    for (i, place) in values.iter_mut().enumerate() {
        *place = value(i);
    }
}

/// Two bytes, an f16.
fn half_at(block: &[u8], place: usize) -> f32 {
    f16::from_le_bytes([block[place], block[place + 1]]).to_f32()
}

/// Code `i`, of 4 bits: of `run` values, bytes have the first half in their lower halves, then the second in their upper ones.
fn nibble(codes: &[u8], i: usize, run: usize) -> u8 {
    let (start, place) = (i / run * (run / 2), i % run);
    codes[start + place % (run / 2)] >> (4 * (place / (run / 2))) & 15
}

/// Bit `i`, the lowest first.
fn bit(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 8] >> (i % 8) & 1
}
