//! A tensor's values as a weight file has them, widened as they are read.

use std::borrow::Cow;

use half::{bf16, f16};
use safetensors::Dtype;

use crate::device::{DType, to_bf16};
use crate::gguf::{BlockFormat, ValueFormat};

/// Floating-point values in a file.
pub struct Values<'a> {
    pub(super) data: Cow<'a, [u8]>,
    pub(super) format: ValueFormat,
}

impl<'a> Values<'a> {
    /// Values of a plain type.
    pub(super) fn plain(data: &'a [u8], dtype: Dtype) -> Self {
        Self { data: data.into(), format: ValueFormat::Plain(dtype) }
    }

    /// How the file stores them.
    pub fn format(&self) -> ValueFormat {
        self.format
    }

    /// The values as stored.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The blocks that they are in, where a tensor of this type takes them as they are.
    pub(super) fn blocks_of(&self, dtype: DType) -> Option<BlockFormat> {
        match self.format {
            ValueFormat::Blocks(blocks) => Some(blocks).filter(|blocks| blocks.kept() == Some(dtype)),
            ValueFormat::Plain(_) => None,
        }
    }

    /// The values as stored, little-endian.
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        self.data
    }

    /// `count` of the values from `first` on, widened.
    pub fn range(&self, first: usize, count: usize) -> Box<dyn ExactSizeIterator<Item = f64> + '_> {
        let dtype = match self.format {
            ValueFormat::Plain(dtype) => dtype,
            ValueFormat::Blocks(blocks) => return Box::new(Unpacked::new(&self.data, blocks, first, count)),
        };
        let size = dtype.bitsize() / 8;
        let words = self.data[first * size..(first + count) * size].chunks_exact(size);
        match dtype {
            Dtype::F64 => Box::new(words.map(|bytes| f64::from_le_bytes(word(bytes)))),
            Dtype::BF16 => Box::new(words.map(|bytes| bf16::from_le_bytes(word(bytes)).into())),
            Dtype::F16 => Box::new(words.map(|bytes| f16::from_le_bytes(word(bytes)).into())),
            _ => Box::new(words.map(|bytes| f32::from_le_bytes(word(bytes)).into())),
        }
    }
}

/// Values of blocks, one after the other; some blocks are unpacked at a time.
struct Unpacked<'a> {
    data: &'a [u8],
    blocks: BlockFormat,
    next: usize,
    end: usize,
    /// Those of the blocks at hand.
    values: Vec<f32>,
    /// The value that these begin with.
    first: usize,
}

impl<'a> Unpacked<'a> {
    fn new(data: &'a [u8], blocks: BlockFormat, first: usize, count: usize) -> Self {
        Self { data, blocks, next: first, end: first + count, values: Vec::new(), first }
    }

    /// Unpacks the block that `next` is in and some after it.
    fn unpack(&mut self) {
        /// Values that are unpacked at a time.
        const AT_ONCE: usize = 1 << 14;
        let of_block = self.blocks.values();
        let (block, end) = (self.next / of_block, self.end.div_ceil(of_block));
        let count = (end - block).min(AT_ONCE / of_block);
        self.first = block * of_block;
        self.values.resize(count * of_block, 0.0);
        let bytes = self.blocks.bytes();
        self.blocks.unpack(&self.data[block * bytes..(block + count) * bytes], &mut self.values);
    }
}

impl Iterator for Unpacked<'_> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        if self.next == self.end {
            return None;
        }
        if self.next - self.first >= self.values.len() {
            self.unpack();
        }
        let value = self.values[self.next - self.first];
        self.next += 1;
        Some(value.into())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Unpacked<'_> {}

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
