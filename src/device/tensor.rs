//! A named array on a device.

use std::borrow::Cow;
use std::ops::Range;

use anyhow::{Context, Result, bail};
use half::bf16;

use super::blocks::BlockType;
use super::data::{DType, Data, Precision, allocated_bytes};
use super::handle::{Backend, Device};
use super::matrix::Rows;
use super::real::Real;
use crate::format::format_bytes;
use crate::gpu::{Binding, BufferPart};

/// The most elements of a tensor: kernels count them in 32 bits.
pub const MAX_ELEMENTS: usize = u32::MAX as usize;

/// Elements that are converted at a time, so that no copy of a whole tensor stands beside it. Of whole words of bf16, and of whole
/// blocks.
const PART: usize = 1 << 20;

/// The key of what no ledger knows.
const LENT: u64 = u64::MAX;

/// Some of a tensor's elements.
pub struct TensorPart<'a> {
    pub tensor: &'a Tensor,
    pub elements: Range<usize>,
}

/// A named, row-major array on a [`Device`], zeroed when made.
///
/// Kernels read `&Tensor` and write `&mut Tensor`: that no kernel reads what it writes through another binding is
/// checked when the program is compiled.
pub struct Tensor {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
    data: Data,
    device: Device,
    ledger_key: u64,
}

impl Device {
    /// A zeroed tensor.
    ///
    /// # Errors
    /// Names the tensor where it has 2^32 elements, or is larger than the device can bind or than the memory that is left.
    pub fn tensor(&self, name: impl Into<String>, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let name = name.into();
        let len = shape.iter().fold(1, |len: usize, &size| len.saturating_mul(size));
        let bytes = allocated_bytes(len, dtype, self.precision());
        let limit = self.limits().tensor_bytes;
        if bytes > limit {
            bail!(
                "{name} {shape:?} takes {} and this device holds at most {} in one tensor; \
                 use smaller batches (--tokens-per-micro-batch; for generation --batch-size, --eval-batch-size) \
                 or another --device",
                format_bytes(bytes),
                format_bytes(limit)
            );
        }
        if len > MAX_ELEMENTS {
            bail!(
                "{name} {shape:?} has more than {MAX_ELEMENTS} elements, the most of one tensor; \
                 use smaller batches (--tokens-per-micro-batch; for generation --batch-size, --eval-batch-size)"
            );
        }
        let data = match &self.0.backend {
            Backend::Gpu(gpu) => Data::Gpu(gpu.create_buffer(&name, bytes)?),
            Backend::Cpu(precision) => Data::on_cpu(len, dtype, *precision).with_context(|| {
                let bytes = format_bytes(bytes);
                format!("{name} {shape:?} takes {bytes}, and there is no memory for it; use smaller batches or a smaller model")
            })?,
            Backend::Plan { .. } | Backend::Compiler(_) => Data::Planned,
        };
        let key = self.ledger().add(&name, bytes);
        Ok(Tensor { name, shape: shape.to_vec(), dtype, data, device: self.clone(), ledger_key: key })
    }

    /// The first elements of several tensors, as many of each as is said, as [`Tensor::read`] has them: a GPU is waited for
    /// once.
    ///
    /// # Errors
    /// Where the device was lost or reported an error.
    pub fn read<const N: usize>(&self, parts: [(&Tensor, usize); N]) -> Result<[Vec<f64>; N]> {
        let mut values = [const { Vec::new() }; N];
        if let Backend::Gpu(gpu) = &self.0.backend {
            let read = gpu.download(&parts.map(|(tensor, count)| tensor.part(0..count)))?;
            for (values, (bytes, (tensor, count))) in values.iter_mut().zip(read.iter().zip(parts)) {
                *values = tensor.widen(bytes, count);
            }
        } else {
            for (values, (tensor, count)) in values.iter_mut().zip(parts) {
                *values = tensor.read(count)?;
            }
        }
        Ok(values)
    }
}

impl Tensor {
    /// A tensor of what is lent, which the ledger has elsewhere.
    pub(super) fn lent(device: &Device, name: &str, len: usize, dtype: DType, data: Data) -> Self {
        Tensor { name: name.to_owned(), shape: vec![len], dtype, data, device: device.clone(), ledger_key: LENT }
    }

    /// The elements, of which the ledger knows on.
    pub(super) fn into_data(mut self) -> Data {
        self.ledger_key = LENT;
        std::mem::replace(&mut self.data, Data::Planned)
    }

    /// The name that errors and plans show.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device that holds the elements.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of all elements as stored.
    pub fn stored_bytes(&self) -> usize {
        self.bytes_of(self.len())
    }

    /// Bytes of the first elements as stored.
    fn bytes_of(&self, elements: usize) -> usize {
        self.dtype.bytes(elements, self.device.precision())
    }

    /// The GPU's buffer, as a dispatch binds it.
    ///
    /// # Panics
    /// Where the tensor is not on a GPU.
    pub(super) fn binding(&self) -> Binding<'_> {
        match &self.data {
            Data::Gpu(buffer) => Binding { tensor: &self.name, buffer },
            _ => panic!("{} is not on a GPU", self.name),
        }
    }

    /// The elements, to a twin.
    pub fn real<T: Real>(&self) -> &[T] {
        T::slice(&self.data).unwrap_or_else(|| panic!("{} does not hold the device's floating-point type", self.name))
    }

    /// The elements, to be written by a twin.
    pub fn real_mut<T: Real>(&mut self) -> &mut [T] {
        T::slice_mut(&mut self.data)
            .unwrap_or_else(|| panic!("{} does not hold the device's floating-point type", self.name))
    }

    /// The elements of a `U32` tensor, to a twin.
    pub fn u32s(&self) -> &[u32] {
        match &self.data {
            Data::U32(values) => values,
            _ => panic!("{} does not hold u32", self.name),
        }
    }

    /// The elements of a `U32` tensor, to be written by a twin.
    pub fn u32s_mut(&mut self) -> &mut [u32] {
        match &mut self.data {
            Data::U32(values) => values,
            _ => panic!("{} does not hold u32", self.name),
        }
    }

    /// The elements from `first` on of a tensor that is stored in blocks, to a twin.
    pub fn unpack<T: Real>(&self, first: usize, values: &mut [T]) {
        let (Data::U32(words), Some(blocks)) = (&self.data, self.dtype.blocks()) else {
            panic!("{} does not hold blocks", self.name);
        };
        if let Some(values) = T::f32s_mut(values) {
            return blocks.unpack(words, first, values);
        }
        let mut unpacked = vec![0.0; values.len()];
        blocks.unpack(words, first, &mut unpacked);
        for (value, unpacked) in values.iter_mut().zip(unpacked) {
            *value = T::of(unpacked.into());
        }
    }

    /// The dot products of rows of x with rows of a tensor that is stored in blocks, from element `first` on, where this processor has
    /// a way that does not unpack them first: `dots(c, y)` has those with the rows from `c` on, each by all of x.
    pub fn block_dots<T: Real>(&self, first: usize, rows: Rows<T>) -> Option<impl Fn(usize, &mut [T]) + Sync> {
        let (Data::U32(words), Some(blocks)) = (&self.data, self.dtype.blocks()) else { return None };
        let Rows { x, stride, inner, count } = rows;
        let dots = blocks.dots(words, first, Rows { x: T::f32s(x)?, stride, inner, count })?;
        Some(move |c: usize, y: &mut [T]| dots(c, T::f32s_mut(y).expect("f32, as x")))
    }

    /// The elements of a `Bf16` tensor, to a twin.
    pub fn bf16s(&self) -> &[bf16] {
        match &self.data {
            Data::Bf16(values) => values,
            _ => panic!("{} does not hold bf16", self.name),
        }
    }

    /// The elements of a `Bf16` tensor, to be written by a twin.
    pub fn bf16s_mut(&mut self) -> &mut [bf16] {
        match &mut self.data {
            Data::Bf16(values) => values,
            _ => panic!("{} does not hold bf16", self.name),
        }
    }

    /// Writes floating-point elements from `start` on, rounded to nearest even to the stored type.
    ///
    /// # Errors
    /// Where the device reported an error.
    ///
    /// # Panics
    /// Where the type is one that is read from files alone: see [`Tensor::write_blocks`].
    pub fn write(&mut self, start: usize, values: impl ExactSizeIterator<Item = f64>) -> Result<()> {
        let end = start + values.len();
        assert!(end <= self.len(), "{}: writing {start}..{end} of {}", self.name, self.len());
        if let Some(blocks) = self.dtype.blocks() {
            return self.write_in_blocks(blocks, start, values);
        }
        match (&mut self.data, self.dtype) {
            (Data::F32(elements), _) => fill(&mut elements[start..end], values.map(|v| v as f32)),
            (Data::F64(elements), _) => fill(&mut elements[start..end], values),
            (Data::Bf16(elements), _) => fill(&mut elements[start..end], values.map(to_bf16)),
            (Data::Gpu(_), DType::Real) => {
                let mut values = values.map(|v| v as f32);
                for first in (start..end).step_by(PART) {
                    let elements: Vec<f32> = values.by_ref().take(PART).collect();
                    self.upload(first * 4, bytemuck::cast_slice(&elements))?;
                }
            }
            (Data::Gpu(_), DType::Bf16) => {
                let mut values = values.map(to_bf16);
                for first in (start..end).step_by(PART) {
                    let elements: Vec<bf16> = values.by_ref().take(PART).collect();
                    self.upload(first * 2, bytemuck::cast_slice(&elements))?;
                }
            }
            (Data::Planned, _) => {}
            (Data::U32(_), _) | (Data::Gpu(_), _) => panic!("{} does not hold floats", self.name),
        }
        Ok(())
    }

    /// As [`Tensor::write`], in blocks; from the first element of one to the last of one, or of the tensor.
    fn write_in_blocks(
        &mut self,
        blocks: BlockType,
        start: usize,
        values: impl ExactSizeIterator<Item = f64>,
    ) -> Result<()> {
        let end = start + values.len();
        if let Data::Planned = self.data {
            return Ok(());
        }
        let mut values = values.map(|v| v as f32);
        for first in (start..end).step_by(PART) {
            let part: Vec<f32> = values.by_ref().take(PART).collect();
            let Some(words) = blocks.pack(&part) else {
                panic!("{}: {blocks:?} is read from files, and not made of values", self.name)
            };
            self.write_part(first, bytemuck::cast_slice(&words))?;
        }
        Ok(())
    }

    /// Writes blocks of the tensor's type as llama.cpp's files have them, [`DType::file_block_bytes`] each, from element `first` on,
    /// the first of a block; `Q8` has Q8_0's. Of the tensor's last block the values after its end are not used. Values are kept to
    /// the bit. A block with a scale that is not finite becomes NaN throughout, as one of such values does.
    ///
    /// # Errors
    /// Where the device reported an error.
    ///
    /// # Panics
    /// Where files have no such type, bytes are not whole blocks, or these do not fit.
    pub fn write_blocks(&mut self, first: usize, raw: &[u8]) -> Result<()> {
        let (Some(blocks), Some(bytes)) = (self.dtype.blocks(), self.dtype.file_block_bytes()) else {
            panic!("{}: no file has blocks of {:?}", self.name, self.dtype)
        };
        assert!(raw.len().is_multiple_of(bytes), "{}: {} bytes are no whole blocks", self.name, raw.len());
        let end = first + raw.len() / bytes * blocks.len();
        assert!(end <= self.len().next_multiple_of(blocks.len()), "{}: writing {first}..{end}", self.name);
        if let Data::Planned = self.data {
            return Ok(());
        }
        for (part, raw) in raw.chunks(PART / blocks.len() * bytes).enumerate() {
            let words = blocks.repack(raw).expect("files have the type");
            self.write_part(first + part * PART, bytemuck::cast_slice(&words))?;
        }
        Ok(())
    }

    /// Writes `U32` elements from `start` on.
    ///
    /// # Errors
    /// Where the device reported an error.
    pub fn write_u32(&mut self, start: usize, values: &[u32]) -> Result<()> {
        assert_eq!(self.dtype, DType::U32, "{} does not hold u32", self.name);
        assert!(start + values.len() <= self.len(), "{}: writing {} at {start}", self.name, values.len());
        match &mut self.data {
            Data::U32(elements) => elements[start..start + values.len()].copy_from_slice(values),
            Data::Gpu(_) => self.upload(start * 4, bytemuck::cast_slice(values))?,
            _ => {}
        }
        Ok(())
    }

    /// Takes over the values of a tensor of the same length, rounded to this one's type.
    ///
    /// # Errors
    /// Where a device fails.
    pub fn copy_from(&mut self, other: &Tensor) -> Result<()> {
        assert_eq!(self.len(), other.len(), "{} and {} differ in length", self.name, other.name);
        match self.data {
            Data::Planned => Ok(()),
            _ => (0..self.len()).step_by(PART).try_for_each(|first| {
                let values = other.widened(first, PART.min(other.len() - first))?;
                self.write(first, values.into_iter())
            }),
        }
    }

    /// The first `count` floating-point elements, widened, after all that was run before.
    ///
    /// # Errors
    /// Where the device was lost or reported an error.
    pub fn read(&self, count: usize) -> Result<Vec<f64>> {
        self.widened(0, count)
    }

    fn widened(&self, start: usize, count: usize) -> Result<Vec<f64>> {
        Ok(self.widen(&self.read_part(start, count)?, count))
    }

    /// The values of `count` elements as stored.
    fn widen(&self, bytes: &[u8], count: usize) -> Vec<f64> {
        match (self.dtype, self.device.precision()) {
            (DType::Real, Precision::F32) => widen(bytemuck::pod_collect_to_vec::<u8, f32>(bytes), f64::from),
            (DType::Real, Precision::F64) => bytemuck::pod_collect_to_vec(bytes),
            (DType::Bf16, _) => widen(bytemuck::pod_collect_to_vec::<u8, bf16>(bytes), f64::from),
            (DType::U32, _) => widen(bytemuck::pod_collect_to_vec::<u8, u32>(bytes), f64::from),
            (DType::Q8 | DType::Q4 | DType::Q40 | DType::Q4K | DType::Q6K, _) => {
                let mut values = vec![0.0; count];
                let words: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
                self.dtype.blocks().expect("blocks").unpack(&words, 0, &mut values);
                widen(values, f64::from)
            }
        }
    }

    /// The first `count` elements as stored, little-endian, after all that was run before.
    ///
    /// # Errors
    /// Where the device was lost or reported an error.
    pub fn read_bytes(&self, count: usize) -> Result<Cow<'_, [u8]>> {
        self.read_part(0, count)
    }

    /// `count` elements from `start` on as stored, little-endian, after all that was run before.
    ///
    /// # Errors
    /// Where the device was lost or reported an error.
    pub fn read_part(&self, start: usize, count: usize) -> Result<Cow<'_, [u8]>> {
        let range = start..start + count;
        let bytes = self.byte_range(&range);
        Ok(match &self.data {
            Data::Gpu(_) => {
                let Backend::Gpu(gpu) = &self.device.0.backend else { unreachable!("a buffer is on a GPU") };
                gpu.download(&[self.part(range)])?.swap_remove(0).into()
            }
            Data::F32(elements) => bytemuck::cast_slice(elements)[bytes].into(),
            Data::F64(elements) => bytemuck::cast_slice(elements)[bytes].into(),
            Data::Bf16(elements) => bytemuck::cast_slice(elements)[bytes].into(),
            Data::U32(elements) => bytemuck::cast_slice(elements)[bytes].into(),
            Data::Planned => vec![0; bytes.len()].into(),
        })
    }

    /// Overwrites elements from `start` on by what [`Tensor::read_part`] gave of others of the same type.
    ///
    /// # Errors
    /// Where the device reported an error.
    pub fn write_part(&mut self, start: usize, bytes: &[u8]) -> Result<()> {
        let first = self.byte_range(&(start..start)).start;
        let range = first..first + bytes.len();
        assert!(range.end <= self.stored_bytes(), "{}: writing {range:?} of {}", self.name, self.stored_bytes());
        match &mut self.data {
            Data::F32(elements) => bytemuck::cast_slice_mut(elements)[range].copy_from_slice(bytes),
            Data::F64(elements) => bytemuck::cast_slice_mut(elements)[range].copy_from_slice(bytes),
            Data::Bf16(elements) => bytemuck::cast_slice_mut(elements)[range].copy_from_slice(bytes),
            Data::U32(elements) => bytemuck::cast_slice_mut(elements)[range].copy_from_slice(bytes),
            Data::Gpu(_) => self.upload(first, bytes)?,
            Data::Planned => {}
        }
        Ok(())
    }

    /// A part of the GPU's buffer.
    pub(super) fn part(&self, elements: Range<usize>) -> BufferPart<'_> {
        let Binding { tensor, buffer } = self.binding();
        let bytes = self.byte_range(&elements);
        BufferPart { tensor, buffer, offset: bytes.start, size: bytes.len() }
    }

    /// The bytes of elements as stored, from the first of a block on where they are in blocks.
    fn byte_range(&self, elements: &Range<usize>) -> Range<usize> {
        assert!(elements.end <= self.len(), "{}: reading {elements:?} of {}", self.name, self.len());
        let in_blocks = self.dtype.blocks().is_none_or(|blocks| elements.start.is_multiple_of(blocks.len()));
        assert!(in_blocks, "{}: reading {elements:?} from the middle of a block on", self.name);
        self.bytes_of(elements.start)..self.bytes_of(elements.end)
    }

    fn upload(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        // The buffer is padded: the last word of bf16 is whole.
        if bytes.len() % 4 == 2 && offset + bytes.len() == self.stored_bytes() {
            return self.upload(offset, &[bytes, &[0, 0]].concat());
        }
        match (&self.device.0.backend, &self.data) {
            (Backend::Gpu(gpu), Data::Gpu(buffer)) => gpu.upload(&self.name, buffer, offset, bytes),
            _ => unreachable!("only a GPU tensor is uploaded"),
        }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        if let (Backend::Gpu(gpu), Data::Gpu(buffer)) = (&self.device.0.backend, &self.data) {
            gpu.forget(buffer);
        }
        self.device.ledger().remove(self.ledger_key);
    }
}

fn fill<T>(elements: &mut [T], values: impl Iterator<Item = T>) {
    for (element, value) in elements.iter_mut().zip(values) {
        *element = value;
    }
}

fn widen<T>(elements: Vec<T>, wide: impl Fn(T) -> f64) -> Vec<f64> {
    elements.into_iter().map(wide).collect()
}

/// To bf16, to nearest even, by way of f32: `bf16::from_f64` drops the lower 32 bits before it rounds.
#[inline]
pub fn to_bf16(value: f64) -> bf16 {
    bf16::from_f32(value as f32)
}

/// What a bf16 stands for: its bits are the upper half of an f32's.
#[inline(always)] // so that it is compiled with the features of the loop that it stands in
pub fn from_bf16(value: bf16) -> f64 {
    f32::from_bits(u32::from(value.to_bits()) << 16).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_elements_than_kernels_count_are_refused_by_name() {
        let cpu = Device::cpu(Precision::F32);
        for device in [Device::plan(&cpu), cpu] {
            for shape in [[1 << 16, 1 << 16], [usize::MAX, 2]] {
                let error = device.tensor("logits", &shape, DType::Real).err().map(|error| error.to_string());
                let expected = format!("logits {shape:?} has more than 4294967295 elements");
                assert!(error.as_ref().is_some_and(|error| error.starts_with(&expected)), "{error:?}");
            }
        }
    }
}
