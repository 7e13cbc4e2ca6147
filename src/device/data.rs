//! The elements of a tensor: their types, and where they are.

use bytemuck::Zeroable;
use bytemuck::allocation::try_zeroed_slice_box;
use half::bf16;

use super::blocks::BlockType;

/// The floating-point type of a device's activations, gradients and moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits: the GPU's only precision and the CPU device's default.
    F32,
    /// 64 bits: the CPU device only; the reference for everything else.
    F64,
}

impl Precision {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::F64 => 8,
        }
    }
}

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// The device's floating-point type: see [`Precision`].
    Real,
    /// bfloat16, as storage only: matrices are read from it, nothing is computed in it. Two to a u32 on a GPU.
    Bf16,
    /// About a byte a value, as storage only, in blocks of 32 values with a scale: llama.cpp's Q8_0.
    Q8,
    /// About half a byte a value, as storage only, in blocks of 64 values with a scale: NF4, as QLoRA's.
    Q4,
    /// About half a byte a value, as storage only, in blocks of 32 values with a scale: llama.cpp's Q4_0. As the next two it is
    /// read from files, and never made of values.
    Q40,
    /// About half a byte a value, as storage only, in blocks of 256 values, with a scale and a minimum for each 32: llama.cpp's Q4_K.
    Q4K,
    /// About 6.6 bits a value, as storage only, in blocks of 256 values, with a scale for each 16: llama.cpp's Q6_K.
    Q6K,
    /// Indices, token ids and counts.
    U32,
}

/// Where the elements are.
pub enum Data {
    Gpu(wgpu::Buffer),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bf16(Vec<bf16>),
    /// Indices, or words of blocks.
    U32(Vec<u32>),
    /// Nowhere: a memory plan.
    Planned,
}

impl Data {
    /// Zeros; `None` where the system has no memory for them.
    pub(super) fn on_cpu(len: usize, dtype: DType, precision: Precision) -> Option<Self> {
        Some(match (dtype, precision) {
            (DType::Real, Precision::F32) => Data::F32(zeros(len)?),
            (DType::Real, Precision::F64) => Data::F64(zeros(len)?),
            (DType::Bf16, _) => Data::Bf16(zeros(len)?),
            (DType::U32, _) => Data::U32(zeros(len)?),
            (DType::Q8 | DType::Q4 | DType::Q40 | DType::Q4K | DType::Q6K, _) => {
                Data::U32(zeros(dtype.bytes(len, precision) / 4)?)
            }
        })
    }
}

/// As `vec![0; len]`, which the system zeroes when it is used, but for the end of the process where there is no memory.
fn zeros<T: Zeroable>(len: usize) -> Option<Vec<T>> {
    let mut zeros = try_zeroed_slice_box(len).ok()?;
    on_huge_pages(&mut zeros);
    Some(zeros.into_vec())
}

/// Asks the system to lay memory that has not been used yet on huge pages, so that products look fewer addresses up. Linux has to be
/// asked, and may not have any.
#[cfg(target_os = "linux")]
fn on_huge_pages<T>(values: &mut [T]) {
    const HUGE_PAGE: usize = 2 << 20;
    if size_of_val(values) < HUGE_PAGE {
        return;
    }
    // SAFETY: sysconf only answers, and advice changes no byte, of these values or of what shares their first page. Where it is not
    // taken, pages stay small.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let start = values.as_mut_ptr();
        let before = start as usize % page;
        libc::madvise(start.wrapping_byte_sub(before).cast(), before + size_of_val(values), libc::MADV_HUGEPAGE);
    }
}

/// Other systems do as they see fit.
#[cfg(not(target_os = "linux"))]
fn on_huge_pages<T>(_: &mut [T]) {}

impl DType {
    /// How elements are in blocks, where they are.
    pub(super) fn blocks(self) -> Option<BlockType> {
        match self {
            DType::Q8 => Some(BlockType::Q8),
            DType::Q4 => Some(BlockType::Q4),
            DType::Q40 => Some(BlockType::Q40),
            DType::Q4K => Some(BlockType::Q4K),
            DType::Q6K => Some(BlockType::Q6K),
            DType::Real | DType::Bf16 | DType::U32 => None,
        }
    }

    /// Whether elements are stored in blocks, with a scale each.
    pub fn is_in_blocks(self) -> bool {
        self.blocks().is_some()
    }

    /// The values of a block; 1 of the types that are not in blocks.
    pub fn block_len(self) -> usize {
        self.blocks().map_or(1, BlockType::len)
    }

    /// The bytes of a block as llama.cpp's files have it, and [`Tensor::write_blocks`](super::Tensor::write_blocks) takes it;
    /// `None` where these have none of the type.
    pub fn file_block_bytes(self) -> Option<usize> {
        self.blocks().and_then(BlockType::file_bytes)
    }

    /// The values of blocks as llama.cpp's files have them, as [`Tensor::write_blocks`](super::Tensor::write_blocks) takes them.
    ///
    /// # Panics
    /// Where files have no such type, or blocks and values are not as many.
    pub fn unpack_file_blocks(self, raw: &[u8], values: &mut [f32]) {
        let words = self.blocks().and_then(|blocks| Some((blocks, blocks.repack(raw)?)));
        let (blocks, words) = words.expect("files have the type");
        blocks.unpack(&words, 0, values);
    }

    /// Bytes of so many elements as stored.
    pub fn bytes(self, len: usize, precision: Precision) -> usize {
        match (self, self.blocks()) {
            (_, Some(blocks)) => blocks.words(len).saturating_mul(4),
            (DType::Bf16, _) => len.saturating_mul(2),
            (DType::U32, _) => len.saturating_mul(4),
            _ => len.saturating_mul(precision.bytes()),
        }
    }
}

/// Bytes of a tensor as allocated: whole vectors of 16 bytes, so that a kernel may read four values at a time
/// up to the end; at least one.
pub(super) fn allocated_bytes(len: usize, dtype: DType, precision: Precision) -> u64 {
    let bytes = dtype.bytes(len, precision) as u64;
    bytes.checked_next_multiple_of(16).unwrap_or(u64::MAX).max(16)
}
