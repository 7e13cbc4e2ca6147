//! Blocks as llama.cpp's files have them, made up: there is no way to make most of values.

use half::f16;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::device::DType;

/// So many blocks of any codes, whose values are about between -1 and 1.
pub fn random_blocks(rng: &mut ChaCha8Rng, dtype: DType, count: usize) -> Vec<u8> {
    // Where scales stand, and their largest.
    let scales: &[(usize, f32)] = match dtype {
        DType::Q8 => &[(0, 1.0 / 127.0)],
        DType::Q40 => &[(0, 1.0 / 8.0)],
        DType::Q4K => &[(0, 1.0 / (63.0 * 15.0)), (2, 1.0 / 63.0)],
        DType::Q6K => &[(208, 1.0 / (128.0 * 32.0))],
        _ => &[],
    };
    let len = dtype.file_block_bytes().unwrap_or_else(|| panic!("no file has blocks of {dtype:?}"));
    let mut blocks: Vec<u8> = (0..count * len).map(|_| rng.random::<u8>()).collect();
    for block in blocks.chunks_exact_mut(len) {
        for &(place, largest) in scales {
            let scale = f16::from_f32(largest * rng.random_range(0.25..1.0));
            block[place..place + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    blocks
}
