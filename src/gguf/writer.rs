//! Writing a GGUF file, one tensor at a time.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use gguf_rs_lib::format::metadata::{Metadata, MetadataArray, MetadataValue};
use gguf_rs_lib::format::{GGUFHeader, GGUFTensorType, GGUFValueType};
use gguf_rs_lib::tensor::{TensorData, TensorInfo, TensorShape};
use gguf_rs_lib::writer::GGUFFileWriter;
use safetensors::Dtype;

use super::blocks::BlockFormat;
use super::file::ValueFormat;
use crate::files::write_file_with;

/// Tensors begin at multiples of this.
const ALIGNMENT: u64 = 32;

/// The metadata of a file that is being made.
#[derive(Default)]
pub struct Entries(Metadata);

/// A tensor to be written.
pub struct NewTensor<'a> {
    /// llama.cpp's.
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Any plain type but F64, or Q8_0.
    pub format: ValueFormat,
    /// Its bytes, when they are written.
    pub read: Box<dyn Fn() -> Result<Vec<u8>> + 'a>,
}

impl Entries {
    /// Sets a key to a text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.set(key, MetadataValue::String(value.to_owned()));
    }

    /// Sets a key to a size: 32 bits, as llama.cpp reads most, where these are enough.
    pub fn size(&mut self, key: &str, value: usize) {
        let size = u32::try_from(value).map_or(MetadataValue::U64(value as u64), MetadataValue::U32);
        self.set(key, size);
    }

    /// Sets a key to an f32.
    pub fn number(&mut self, key: &str, value: f64) {
        self.set(key, MetadataValue::F32(value as f32));
    }

    /// Sets a key to true or false.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.set(key, MetadataValue::Bool(value));
    }

    /// Sets a key to a list of texts.
    pub fn texts(&mut self, key: &str, values: impl Iterator<Item = String>) {
        self.list(key, GGUFValueType::String, values.map(MetadataValue::String).collect());
    }

    /// Sets a key to a list of f32.
    pub fn numbers(&mut self, key: &str, values: impl Iterator<Item = f32>) {
        self.list(key, GGUFValueType::F32, values.map(MetadataValue::F32).collect());
    }

    /// Sets a key to a list of i32, as the kinds of tokens are.
    pub fn kinds(&mut self, key: &str, values: impl Iterator<Item = i32>) {
        self.list(key, GGUFValueType::I32, values.map(MetadataValue::I32).collect());
    }

    fn list(&mut self, key: &str, element_type: GGUFValueType, values: Vec<MetadataValue>) {
        let list = MetadataArray { element_type, length: values.len() as u64, values };
        self.set(key, MetadataValue::Array(Box::new(list)));
    }

    fn set(&mut self, key: &str, value: MetadataValue) {
        self.0.insert(key.to_owned(), value);
    }
}

impl ValueFormat {
    /// The number of the type in a file.
    fn written(self) -> GGUFTensorType {
        match self {
            Self::Plain(Dtype::F32) => GGUFTensorType::F32,
            Self::Plain(Dtype::F16) => GGUFTensorType::F16,
            Self::Plain(Dtype::BF16) => GGUFTensorType::BF16,
            Self::Blocks(BlockFormat::Q8_0) => GGUFTensorType::Q8_0,
            other => unreachable!("{other:?} is not written"),
        }
    }
}

/// Writes a GGUF file of version 3; it is there whole or as it was.
///
/// # Errors
/// Names the file that cannot be written, or what is wrong with a tensor.
pub fn write_gguf(path: &Path, entries: &Entries, tensors: &[NewTensor]) -> Result<()> {
    let infos = infos(tensors).with_context(|| path.display().to_string())?;
    write_file_with(path, |file| {
        let context = |error| anyhow!("{}: cannot be written: {error}", path.display());
        let mut buffered = BufWriter::new(file);
        let mut writer = GGUFFileWriter::new(&mut buffered);
        let Entries(metadata) = entries;
        writer.write_header(&GGUFHeader::new(tensors.len() as u64, metadata.len() as u64)).map_err(context)?;
        writer.write_metadata(metadata).map_err(context)?;
        writer.write_tensor_infos(&infos).map_err(context)?;
        writer.align_for_tensor_data().map_err(context)?;
        for (info, tensor) in infos.iter().zip(tensors) {
            let data = (tensor.read)().with_context(|| tensor.name.clone())?;
            writer.write_tensor_data(info, &TensorData::new_owned(data)).map_err(context)?;
        }
        writer.finalize().map_err(context)?;
        // The last one ends as if another came.
        let end = tensors.last().map_or(0, |tensor| tensor.format.bytes(tensor.shape.iter().product()));
        let padding = vec![0; end.next_multiple_of(ALIGNMENT as usize) - end];
        buffered
            .write_all(&padding)
            .and_then(|()| buffered.flush())
            .with_context(|| format!("{}: cannot be written", path.display()))
    })
}

/// Where each tensor will be.
fn infos(tensors: &[NewTensor]) -> Result<Vec<TensorInfo>> {
    let mut offset = 0u64;
    let mut infos = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let dimensions = tensor.shape.iter().rev().map(|&size| size as u64).collect();
        let shape = TensorShape::new(dimensions)?;
        infos.push(TensorInfo::new(tensor.name.clone(), shape, tensor.format.written(), offset));
        let bytes = tensor.format.bytes(tensor.shape.iter().product()) as u64;
        offset = (offset + bytes).next_multiple_of(ALIGNMENT);
    }
    Ok(infos)
}
