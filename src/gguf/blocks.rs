//! llama.cpp's blocks: a few bits a value with scales that several values share, as files have them.

use half::f16;

use crate::device::DType;

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

/// Values of the largest block.
pub(super) const MOST_VALUES: usize = 256;

impl BlockFormat {
    /// The values of a block.
    pub const fn values(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => MOST_VALUES,
        }
    }

    /// The bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
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

    /// Values as blocks of Q8_0, as the Python package `gguf` rounds them: by the scale before it is an f16, halves away from zero.
    ///
    /// # Panics
    /// Where they are not whole blocks.
    pub fn pack_q8_0(values: &[f32]) -> Vec<u8> {
        let (blocks, rest) = values.as_chunks::<{ Self::Q8_0.values() }>();
        assert!(rest.is_empty(), "whole blocks");
        let mut bytes = Vec::with_capacity(blocks.len() * Self::Q8_0.bytes());
        for block in blocks {
            let scale = block.iter().fold(0.0, |largest: f32, value| largest.max(value.abs())) / 127.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            bytes.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
            bytes.extend(block.iter().map(|value| (value * inverse).round() as i8 as u8));
        }
        bytes
    }

    /// The values of one block, in f32 and in the order of operations of the Python package `gguf`.
    ///
    /// # Panics
    /// Where either is not a block's.
    pub fn unpack(self, block: &[u8], values: &mut [f32]) {
        match self {
            Self::Q4_0 => {
                let (scale, codes) = (half_at(block, 0), &block[2..]);
                fill(values, |i| scale * (f32::from(nibble(codes, i, 32)) - 8.0));
            }
            Self::Q4_1 => {
                let (scale, least, codes) = (half_at(block, 0), half_at(block, 2), &block[4..]);
                fill(values, |i| scale * f32::from(nibble(codes, i, 32)) + least);
            }
            Self::Q5_0 => {
                let (scale, high, codes) = (half_at(block, 0), &block[2..6], &block[6..]);
                fill(values, |i| scale * (f32::from(nibble(codes, i, 32) | bit(high, i) << 4) - 16.0));
            }
            Self::Q5_1 => {
                let (scale, least, high, codes) = (half_at(block, 0), half_at(block, 2), &block[4..8], &block[8..]);
                fill(values, |i| scale * f32::from(nibble(codes, i, 32) | bit(high, i) << 4) + least);
            }
            Self::Q8_0 => {
                let scale = half_at(block, 0);
                fill(values, |i| scale * f32::from(block[2 + i] as i8));
            }
            Self::Q4K => {
                let codes = &block[16..];
                let parts = Parts::of(block);
                fill(values, |i| parts.value(i / 32, nibble(codes, i, 64)));
            }
            Self::Q5K => {
                let (high, codes) = (&block[16..48], &block[48..]);
                let parts = Parts::of(block);
                // Bit j of byte i is the highest of value i of part j.
                fill(values, |i| parts.value(i / 32, nibble(codes, i, 64) | (high[i % 32] >> (i / 32) & 1) << 4));
            }
            Self::Q6K => {
                let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
                let scale = half_at(block, 208);
                fill(values, |i| {
                    // Of 128 values, the upper bits of four that are 32 apart share a byte.
                    let (half, place) = (i / 128, i % 128);
                    let upper = high[32 * half + place % 32] >> (2 * (place / 32)) & 3;
                    let code = f32::from(nibble(&low[64 * half..], place, 128) | upper << 4) - 32.0;
                    scale * f32::from(scales[i / 16] as i8) * code
                });
            }
        }
    }
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

/// The scales and least values of the eight parts of a block, each six bits of a block's own.
struct Parts {
    scales: [f32; 8],
    least: [f32; 8],
}

impl Parts {
    /// Of a block that begins with two f16 and twelve bytes.
    fn of(block: &[u8]) -> Self {
        let (scale, least, packed) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
        let six_bits = |part: usize, first: usize| match part {
            0..4 => packed[first + part] & 63,
            // Lower bits in the last four bytes, upper ones where those of the first parts leave room.
            _ => packed[4 + part] >> first & 15 | packed[first + part - 4] >> 6 << 4,
        };
        Self {
            scales: std::array::from_fn(|part| scale * f32::from(six_bits(part, 0))),
            least: std::array::from_fn(|part| least * f32::from(six_bits(part, 4))),
        }
    }

    fn value(&self, part: usize, code: u8) -> f32 {
        self.scales[part] * f32::from(code) - self.least[part]
    }
}
