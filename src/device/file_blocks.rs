//! llama.cpp's blocks: how its files have them, how a device does, and what they stand for. Nothing is rounded on the way: scales
//! are f16 there and f32 here, and every value is exact in f32.
//!
//! A device has a block's codes in the order of its values. The bytes of a word have four codes side by side in their lowest bits,
//! then the next four above them: GPUs convert bytes, and a shift and a mask bring four codes there.

use half::f16;
use rayon::prelude::*;

/// Words of Q4_0's 32 values: four of eight codes; the scale.
pub const Q4_0_WORDS: usize = 5;
/// Words of Q4_K's 256 values: 32 of eight codes; four of bytes, a scale and a minimum for each 32 values; what scales the scales,
/// and the minima.
pub const Q4_K_WORDS: usize = 38;
/// Words of Q6_K's 256 values: 32 of the codes' lower four bits, 16 of their upper two; four of signed bytes, a scale for each 16
/// values; what scales the scales.
pub const Q6_K_WORDS: usize = 53;

/// Blocks of a file, one after the other, as a device has them.
pub fn repacked<const BYTES: usize, const WORDS: usize>(
    raw: &[u8],
    repack: impl Fn(&[u8; BYTES], &mut [u32; WORDS]) + Sync,
) -> Vec<u32> {
    let blocks = raw.as_chunks().0.par_iter().map(|raw| {
        let mut words = [0; WORDS];
        repack(raw, &mut words);
        words
    });
    blocks.collect::<Vec<_>>().into_flattened()
}

/// The scales of a block. Where one is not finite all are NaN, so that the whole block is, and what is computed from it shows.
fn scales<const N: usize>(raw: &[u8]) -> [u32; N] {
    let (bytes, _) = raw.as_chunks();
    let scales: [f32; N] = std::array::from_fn(|i| f16::from_le_bytes(bytes[i]).to_f32());
    let is_finite = scales.iter().all(|scale| scale.is_finite());
    scales.map(|scale| if is_finite { scale } else { f32::NAN }.to_bits())
}

/// Where the first eight codes of so many bits lie in their word.
pub const fn shifts<const BITS: u32>() -> [u32; 8] {
    [0, 8, 16, 24, BITS, BITS + 8, BITS + 16, BITS + 24]
}

/// Puts a code in its place among others.
#[inline]
fn put<const BITS: usize>(words: &mut [u32], place: usize, code: u8) {
    let within = place % (32 / BITS);
    words[place / (32 / BITS)] |= u32::from(code) << (8 * (within % 4) + BITS * (within / 4));
}

pub fn repack_q8_0(raw: &[u8; 34], words: &mut [u32; 9]) {
    for (i, &byte) in raw[2..].iter().enumerate() {
        put::<8>(words, i, byte);
    }
    words[8..].copy_from_slice(&scales::<1>(&raw[..2]));
}

pub fn repack_q4_0(raw: &[u8; 18], words: &mut [u32; Q4_0_WORDS]) {
    for (i, byte) in raw[2..].iter().enumerate() {
        put::<4>(words, i, byte & 15);
        put::<4>(words, i + 16, byte >> 4);
    }
    words[4..].copy_from_slice(&scales::<1>(&raw[..2]));
}

pub fn repack_q4_k(raw: &[u8; 144], words: &mut [u32; Q4_K_WORDS]) {
    let (packed, codes) = (&raw[4..16], &raw[16..]);
    for (i, byte) in codes.iter().enumerate() {
        let first = i / 32 * 64 + i % 32;
        put::<4>(words, first, byte & 15);
        put::<4>(words, first + 32, byte >> 4);
    }
    for (i, &byte) in scales_and_minima(packed).as_flattened().iter().enumerate() {
        put::<8>(&mut words[32..], i, byte);
    }
    words[36..].copy_from_slice(&scales::<2>(&raw[..4]));
}

/// The scales and minima of the eight parts of a block of Q4_K or Q5_K, from its twelve bytes. Six bits each: of the last four the
/// upper two stand above those of the first four.
pub fn scales_and_minima(packed: &[u8]) -> [[u8; 2]; 8] {
    std::array::from_fn(|i| match i {
        0..4 => [packed[i] & 63, packed[i + 4] & 63],
        _ => [packed[i + 4] & 15 | packed[i - 4] >> 6 << 4, packed[i + 4] >> 4 | packed[i] >> 6 << 4],
    })
}

pub fn repack_q6_k(raw: &[u8; 210], words: &mut [u32; Q6_K_WORDS]) {
    let (low, high, bytes) = (&raw[..128], &raw[128..192], &raw[192..208]);
    for (i, byte) in low.iter().enumerate() {
        let first = i / 64 * 128 + i % 64;
        put::<4>(words, first, byte & 15);
        put::<4>(words, first + 64, byte >> 4);
    }
    for (i, byte) in high.iter().enumerate() {
        for part in 0..4 {
            put::<2>(&mut words[32..], i / 32 * 128 + 32 * part + i % 32, byte >> (2 * part) & 3);
        }
    }
    for (i, &byte) in bytes.iter().enumerate() {
        put::<8>(&mut words[48..], i, byte);
    }
    words[52..].copy_from_slice(&scales::<1>(&raw[208..]));
}

/// The scale, and what is taken off, of 32 of Q4_K's values.
#[inline(always)] // so that it is compiled with the features of the loop that it stands in
fn scale_and_offset(block: &[u32; Q4_K_WORDS], part: usize) -> [f32; 2] {
    let pair = block[32 + part / 2] >> (16 * (part % 2));
    [f32::from_bits(block[36]) * f32::from(pair as u8), f32::from_bits(block[37]) * f32::from((pair >> 8) as u8)]
}

#[inline(always)] // as above
pub fn unpack_q4_0(block: &[u32; Q4_0_WORDS], values: &mut [f32; 32]) {
    let (scale, shifts) = (f32::from_bits(block[4]), const { shifts::<4>() });
    let (eights, _) = values.as_chunks_mut::<8>();
    for i in 0..eights.len() {
        for j in 0..8 {
            let code = block[i] >> shifts[j] & 15;
            eights[i][j] = scale * (code as i32 - 8) as f32;
        }
    }
}

#[inline(always)] // as above
pub fn unpack_q4_k(block: &[u32; Q4_K_WORDS], values: &mut [f32; 256]) {
    let shifts = const { shifts::<4>() };
    let (eights, _) = values.as_chunks_mut::<8>();
    for i in 0..eights.len() {
        let [scale, offset] = scale_and_offset(block, i / 4);
        for j in 0..8 {
            let code = block[i] >> shifts[j] & 15;
            eights[i][j] = scale * (code as i32) as f32 - offset;
        }
    }
}

#[inline(always)] // as above
pub fn unpack_q6_k(block: &[u32; Q6_K_WORDS], values: &mut [f32; 256]) {
    let (of_low, of_high) = const { (shifts::<4>(), shifts::<2>()) };
    let (eights, _) = values.as_chunks_mut::<8>();
    for i in 0..eights.len() {
        let byte = (block[48 + i / 8] >> (8 * (i / 2 % 4))) as i8;
        let scale = f32::from_bits(block[52]) * f32::from(byte);
        let (low, high) = (block[i], block[32 + i / 2] >> (4 * (i % 2)));
        for j in 0..8 {
            let code = low >> of_low[j] & 15 | (high >> of_high[j] & 3) << 4;
            eights[i][j] = scale * (code as i32 - 32) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_that_is_not_finite_makes_its_block_nan() {
        for bad in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY] {
            for place in [0, 2] {
                let mut raw = [0x37; 144];
                raw[place..place + 2].copy_from_slice(&bad.to_le_bytes());
                let (mut words, mut values) = ([0; Q4_K_WORDS], [0.0; 256]);
                repack_q4_k(&raw, &mut words);
                unpack_q4_k(&words, &mut values);
                assert!(values.iter().all(|value| value.is_nan()), "{bad} at {place}");
            }
            let mut raw = [0; 18]; // codes of 0, and of 8, whose value is 0
            raw[2..10].fill(0x88);
            raw[..2].copy_from_slice(&bad.to_le_bytes());
            let (mut words, mut values) = ([0; Q4_0_WORDS], [0.0; 32]);
            repack_q4_0(&raw, &mut words);
            unpack_q4_0(&words, &mut values);
            assert!(values.iter().all(|value| value.is_nan()), "{bad}");
        }
    }
}
