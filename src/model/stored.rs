//! Writing a device's tensors as safetensors, one at a time, without a copy of all of them in memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::{Dtype, View};

use super::parameter::Parameter;
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
            let size = shard.weight.element_bytes();
            let rows = shard.weight.read_bytes(shard.rows * self.stride())?;
            rows.chunks(self.stride() * size).for_each(|row| bytes.extend_from_slice(&row[..self.cols() * size]));
        }
        Ok(bytes.into())
    }
}

/// Writes tensors by name.
///
/// # Errors
/// Names the file where it cannot be written; the device's fault where it has one.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, &'a dyn Stored)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let context = || format!("{}: cannot be written", path.display());
    // The crate writes a file that only its owner may read; this one gets the permissions of any new file.
    let permissions = File::create(path).and_then(|file| file.metadata()).with_context(context)?.permissions();
    let fault = RefCell::new(None);
    let views = tensors.map(|(name, tensor)| (name, OnDemand { tensor, fault: &fault }));
    safetensors::serialize_to_file(views, metadata, path).with_context(context)?;
    std::fs::set_permissions(path, permissions).with_context(context)?;
    fault.take().map_or(Ok(()), Err)
}

/// A tensor that is read from its device when its bytes are written.
struct OnDemand<'a> {
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
        match self.tensor.read_stored() {
            Ok(bytes) => bytes,
            Err(error) => {
                self.fault.borrow_mut().get_or_insert(error);
                vec![0; self.data_len()].into()
            }
        }
    }

    fn data_len(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}
