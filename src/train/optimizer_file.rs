//! The optimizer's part of a checkpoint: every tensor as the device holds it, to the bit.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use safetensors::SafeTensors;

use super::session::Session;
use crate::device::Tensor;
use crate::files::map_file;
use crate::model::{Stored, write_safetensors};

/// Elements that are handed to a device at a time.
const PART: usize = 1 << 20;

/// The optimizer's tensors of both networks, by name.
pub fn tensors(session: &mut Session) -> Vec<(String, &mut Tensor)> {
    let policy = session.policy.group.tensors_mut().map(|(name, tensor)| (format!("policy/{name}"), tensor));
    let value = session.value.iter_mut().flat_map(|value| value.group.tensors_mut());
    policy.chain(value.map(|(name, tensor)| (format!("value/{name}"), tensor))).collect()
}

/// Writes them.
///
/// # Errors
/// Where the file cannot be written or the device fails.
pub fn save(session: &mut Session, path: &Path) -> Result<()> {
    let tensors = tensors(session);
    write_safetensors(path, tensors.iter().map(|(name, tensor)| (name.clone(), &**tensor as _)), None)
}

/// Fills them from a checkpoint.
///
/// # Errors
/// Where the file is missing, damaged, or of another run.
pub fn load(session: &mut Session, path: &Path) -> Result<()> {
    let map = map_file(path)?;
    let stored = SafeTensors::deserialize(&map)
        .map_err(|error| anyhow!("{}: not a whole safetensors file ({error})", path.display()))?;
    for (name, tensor) in tensors(session) {
        let view = stored.tensor(&name).map_err(|_| anyhow!("{}: {name} is missing", path.display()))?;
        let (shape, dtype) = (view.shape(), view.dtype());
        let fits = shape == tensor.shape() && dtype == tensor.stored_dtype();
        ensure!(fits, "{}: {name} is {dtype:?} {shape:?}, which does not fit this run", path.display());
        let size = tensor.stored_dtype().bitsize() / 8;
        for (part, bytes) in view.data().chunks(PART * size).enumerate() {
            tensor.write_part(part * PART, bytes)?;
        }
    }
    Ok(())
}
