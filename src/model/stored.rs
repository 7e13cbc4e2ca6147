//! Writing a device's tensors as safetensors, one at a time, without a copy of all of them in memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{Display, Formatter};
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, View};

use super::parameter::Parameter;
use super::values::{Values, encode};
use crate::device::{DType, Precision, Tensor};

/// What can be written: its type, its shape, and its bytes on demand.
pub trait Stored {
    /// The type of the values as stored.
    fn stored_dtype(&self) -> Dtype;
    /// The shape in the file.
    fn stored_shape(&self) -> &[usize];
    /// The values as stored, little-endian.
    ///
    /// # Errors
    /// Where the device fails.
    fn read_stored(&self) -> Result<Cow<'_, [u8]>>;
}

impl Stored for Tensor {
    fn stored_dtype(&self) -> Dtype {
        match (self.dtype(), self.device().precision()) {
            (DType::U32, _) => Dtype::U32,
            (DType::Bf16, _) => Dtype::BF16,
            (DType::Real, Precision::F32) => Dtype::F32,
            (DType::Real, Precision::F64) => Dtype::F64,
            (DType::Q8 | DType::Q4 | DType::Q40 | DType::Q4K | DType::Q6K, _) => {
                unreachable!("{}: a frozen base is not saved", self.name())
            }
        }
    }

    fn stored_shape(&self) -> &[usize] {
        self.shape()
    }

    fn read_stored(&self) -> Result<Cow<'_, [u8]>> {
        self.read_bytes(self.len())
    }
}

impl Stored for Parameter {
    fn stored_dtype(&self) -> Dtype {
        self.shards()[0].weight.stored_dtype()
    }

    fn stored_shape(&self) -> &[usize] {
        self.shape()
    }

    fn read_stored(&self) -> Result<Cow<'_, [u8]>> {
        let is_filled_up = self.stride() > self.cols();
        if let ([shard], false) = (self.shards(), is_filled_up) {
            return shard.weight.read_bytes(self.len());
        }
        let mut bytes = Vec::new();
        for shard in self.shards() {
            let size = shard.weight.stored_dtype().bitsize() / 8;
            let rows = shard.weight.read_bytes(shard.rows * self.stride())?;
            rows.chunks(self.stride() * size).for_each(|row| bytes.extend_from_slice(&row[..self.cols() * size]));
        }
        Ok(bytes.into())
    }
}

/// A tensor that may be stored as another type than it is held in.
pub struct Converted<'a> {
    tensor: &'a dyn Stored,
    /// The type in the file.
    dtype: Dtype,
}

impl<'a> Converted<'a> {
    /// A tensor to be stored as `dtype`, or as it is held.
    pub fn of(tensor: &'a dyn Stored, dtype: Option<Dtype>) -> Self {
        Self { tensor, dtype: dtype.unwrap_or(tensor.stored_dtype()) }
    }
}

impl Stored for Converted<'_> {
    fn stored_dtype(&self) -> Dtype {
        self.dtype
    }

    fn stored_shape(&self) -> &[usize] {
        self.tensor.stored_shape()
    }

    fn read_stored(&self) -> Result<Cow<'_, [u8]>> {
        let (data, held) = (self.tensor.read_stored()?, self.tensor.stored_dtype());
        if held == self.dtype {
            return Ok(data);
        }
        let values = Values::plain(&data, held);
        let count = self.stored_shape().iter().product();
        let converted = encode(values.range(0, count), self.dtype);
        if let Some(element) = first_not_finite(&converted, self.dtype)
            && let Some(value) = values.range(element, 1).next().filter(|value| value.is_finite())
        {
            bail!("element {element} is {value}, which is too large for {:?}; choose another type", self.dtype);
        }
        Ok(converted.into())
    }
}

/// A value that no model has.
#[derive(Debug)]
pub struct NotFinite {
    /// The tensor's.
    pub name: String,
    /// Its place in the tensor.
    pub element: usize,
}

impl Display for NotFinite {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        write!(f, "{}: element {} is not finite, and what is not finite is not saved", self.name, self.element)
    }
}

impl std::error::Error for NotFinite {}

/// Writes tensors by name.
///
/// # Errors
/// Names the file where it cannot be written; the device's fault where it has one; [`NotFinite`] where a tensor has an
/// infinity or a NaN.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, &'a dyn Stored)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let context = || format!("{}: cannot be written", path.display());
    // The crate writes a file that only its owner may read; this one gets the permissions of any new file.
    let permissions = File::create(path).and_then(|file| file.metadata()).with_context(context)?.permissions();
    let fault = RefCell::new(None);
    let views = tensors.map(|(name, tensor)| (name.clone(), OnDemand { name, tensor, fault: &fault }));
    safetensors::serialize_to_file(views, metadata, path).with_context(context)?;
    std::fs::set_permissions(path, permissions).with_context(context)?;
    fault.take().map_or(Ok(()), Err)
}

/// Writes a network's weights as `dtype`, or as they are held, under their names behind `prefix`.
///
/// # Errors
/// As [`write_safetensors`].
pub fn write_weights(path: &Path, parameters: &[&Parameter], prefix: &str, dtype: Option<Dtype>) -> Result<()> {
    let stored: Vec<_> = parameters.iter().map(|parameter| Converted::of(*parameter, dtype)).collect();
    let name = |parameter: &&Parameter| format!("{prefix}{}", parameter.name());
    let tensors = parameters.iter().map(name).zip(stored.iter().map(|stored| stored as _));
    write_safetensors(path, tensors, Some(pytorch()))
}

/// What `transformers` and `peft` say of the tensors in a file.
pub fn pytorch() -> HashMap<String, String> {
    [("format".to_owned(), "pt".to_owned())].into()
}

/// A tensor that is read from its device when its bytes are written.
struct OnDemand<'a> {
    name: String,
    tensor: &'a dyn Stored,
    /// The first fault of a read: `View` has no way to say it.
    fault: &'a RefCell<Option<anyhow::Error>>,
}

impl View for OnDemand<'_> {
    fn dtype(&self) -> Dtype {
        self.tensor.stored_dtype()
    }

    fn shape(&self) -> &[usize] {
        self.tensor.stored_shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let read = self.tensor.read_stored().and_then(|bytes| match first_not_finite(&bytes, self.dtype()) {
            Some(element) => Err(NotFinite { name: self.name.clone(), element }.into()),
            None => Ok(bytes),
        });
        match read {
            Ok(bytes) => bytes,
            Err(error) => {
                let error = if error.is::<NotFinite>() { error } else { error.context(self.name.clone()) };
                self.fault.borrow_mut().get_or_insert(error);
                vec![0; self.data_len()].into()
            }
        }
    }

    fn data_len(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}

/// The first infinity or NaN: a value whose exponent's bits are all set.
fn first_not_finite(bytes: &[u8], dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F64 => position(bytes, |value| u64::from_le_bytes(value) >> 52 & 0x7ff == 0x7ff),
        Dtype::F32 => position(bytes, |value| u32::from_le_bytes(value) >> 23 & 0xff == 0xff),
        Dtype::BF16 => position(bytes, |value| u16::from_le_bytes(value) >> 7 & 0xff == 0xff),
        Dtype::F16 => position(bytes, |value| u16::from_le_bytes(value) >> 10 & 0x1f == 0x1f),
        _ => None,
    }
}

fn position<const SIZE: usize>(bytes: &[u8], is_sought: impl Fn([u8; SIZE]) -> bool) -> Option<usize> {
    bytes.as_chunks().0.iter().position(|value| is_sought(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_found() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let of = |values: [f64; 3]| values.map(|value| half::bf16::from_f64(value).to_le_bytes()).concat();
            assert_eq!(first_not_finite(&of([1.0, value, value]), Dtype::BF16), Some(1));
            assert_eq!(first_not_finite(&of([1.0, -2.0, 3e38]), Dtype::BF16), None);
            let of = |values: [f64; 3]| values.map(|value| half::f16::from_f64(value).to_le_bytes()).concat();
            assert_eq!(first_not_finite(&of([1.0, value, value]), Dtype::F16), Some(1));
            assert_eq!(first_not_finite(&of([1.0, -2.0, 6e4]), Dtype::F16), None);
            let of = |values: [f64; 3]| values.map(|value| (value as f32).to_le_bytes()).concat();
            assert_eq!(first_not_finite(&of([1.0, -2.0, value]), Dtype::F32), Some(2));
            assert_eq!(first_not_finite(&of([1.0, -2.0, 3e38]), Dtype::F32), None);
            let of = |values: [f64; 3]| values.map(f64::to_le_bytes).concat();
            assert_eq!(first_not_finite(&of([value, -2.0, 1.0]), Dtype::F64), Some(0));
            assert_eq!(first_not_finite(&of([1.0, -2.0, 1e308]), Dtype::F64), None);
        }
        assert_eq!(first_not_finite(&[0xff; 8], Dtype::U32), None);
    }
}
