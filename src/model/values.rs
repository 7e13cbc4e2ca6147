//! A tensor's values as a weight file has them, widened as they are read.

use half::{bf16, f16};
use safetensors::Dtype;

use crate::device::to_bf16;

/// Floating-point values in a file.
pub struct Values<'a> {
    pub(super) data: &'a [u8],
    pub(super) dtype: Dtype,
}

impl<'a> Values<'a> {
    /// The type in the file.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The values as stored, little-endian.
    pub fn bytes(&self) -> &'a [u8] {
        self.data
    }

    /// `count` of the values from `first` on, widened.
    pub fn range(&self, first: usize, count: usize) -> Box<dyn ExactSizeIterator<Item = f64> + 'a> {
        let size = self.dtype.bitsize() / 8;
        let words = self.data[first * size..(first + count) * size].chunks_exact(size);
        match self.dtype {
            Dtype::F64 => Box::new(words.map(|bytes| f64::from_le_bytes(word(bytes)))),
            Dtype::BF16 => Box::new(words.map(|bytes| bf16::from_le_bytes(word(bytes)).into())),
            Dtype::F16 => Box::new(words.map(|bytes| f16::from_le_bytes(word(bytes)).into())),
            _ => Box::new(words.map(|bytes| f32::from_le_bytes(word(bytes)).into())),
        }
    }
}

/// Values as a file of this type has them, little-endian.
pub fn encode(values: impl Iterator<Item = f64>, dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F64 => values.flat_map(f64::to_le_bytes).collect(),
        Dtype::BF16 => values.flat_map(|value| to_bf16(value).to_le_bytes()).collect(),
        Dtype::F16 => values.flat_map(|value| f16::from_f32(value as f32).to_le_bytes()).collect(),
        _ => values.flat_map(|value| (value as f32).to_le_bytes()).collect(),
    }
}

fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut word = [0; N];
    word.copy_from_slice(bytes);
    word
}
