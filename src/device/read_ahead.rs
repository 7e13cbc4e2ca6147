//! Parts of tensors on their way to the host.

use std::collections::VecDeque;

use anyhow::Result;

use super::handle::{Backend, Device};
use super::tensor::TensorPart;
use crate::gpu::{Gpu, Load, TRANSFER_BYTES};

/// Reads parts of tensors in loads, first in, first out. A GPU goes on meanwhile with what is recorded after a load was sent; on
/// the CPU device a load is there at once.
pub struct ReadAhead {
    device: Device,
    staging: Staging,
    /// The CPU device's load.
    at_hand: Vec<u8>,
    ledger_key: Option<u64>,
}

/// The buffers that a GPU's loads pass through.
#[derive(Default)]
struct Staging {
    free: Vec<wgpu::Buffer>,
    /// What is recorded of the load that is being made.
    open: Option<Open>,
    /// Complete, and not handed over yet.
    closed: Vec<wgpu::Buffer>,
    sent: VecDeque<Load>,
}

struct Open {
    buffer: wgpu::Buffer,
    end: usize,
}

impl ReadAhead {
    /// The bytes of a GPU's load, at most.
    pub const GPU_LOAD: usize = TRANSFER_BYTES as usize;

    /// Room for so many loads that are on their way at once; on the CPU device for one, of any size.
    pub fn new(device: &Device, name: &str, loads: usize) -> Self {
        let mut staging = Staging::default();
        if let Some(gpu) = computing(device) {
            staging.free.extend((0..loads).map(|_| gpu.create_staging()));
        }
        let ledger_key = device.computes_apart().then(|| device.ledger().add(name, TRANSFER_BYTES * loads as u64));
        Self { device: device.clone(), staging, at_hand: Vec::new(), ledger_key }
    }

    /// Adds a part to the load that is being made, as it is after all that was run before.
    ///
    /// # Errors
    /// Where the device reported an error.
    ///
    /// # Panics
    /// Where there is no room for another load.
    pub fn push(&mut self, part: TensorPart) -> Result<()> {
        let Some(gpu) = computing(&self.device) else {
            self.at_hand.extend_from_slice(&part.tensor.read_part(part.elements.start, part.elements.len())?);
            return Ok(());
        };
        let open = self.staging.open.get_or_insert_with(|| {
            let buffer = self.staging.free.pop().expect("room for another load");
            Open { buffer, end: 0 }
        });
        let part = part.tensor.part(part.elements);
        gpu.copy_out(part, &open.buffer, open.end);
        open.end += part.size;
        Ok(())
    }

    /// The load is complete; what is pushed next belongs to another one.
    pub fn close(&mut self) {
        self.staging.closed.extend(self.staging.open.take().map(|open| open.buffer));
    }

    /// Whether a load must be taken before another one is begun.
    pub fn is_full(&self) -> bool {
        match computing(&self.device) {
            Some(_) => self.staging.free.is_empty(),
            None => !self.at_hand.is_empty(),
        }
    }

    /// Hands complete loads to the GPU, with all that was recorded.
    ///
    /// # Errors
    /// Where the device has a fault.
    pub fn send(&mut self) -> Result<()> {
        if let Some(gpu) = computing(&self.device).filter(|_| !self.staging.closed.is_empty()) {
            self.staging.sent.extend(gpu.send_out(std::mem::take(&mut self.staging.closed))?);
        }
        Ok(())
    }

    /// How many loads were sent and not taken.
    pub fn sent(&self) -> usize {
        self.staging.sent.len()
    }

    /// Waits for the oldest complete load; `take` gets it, and what is behind it in its buffer.
    ///
    /// # Errors
    /// Where the device has a fault.
    pub fn take(&mut self, take: impl FnOnce(&[u8])) -> Result<()> {
        self.send()?;
        match computing(&self.device).zip(self.staging.sent.pop_front()) {
            Some((gpu, load)) => {
                gpu.receive(&load, take)?;
                self.staging.free.push(load.staging);
            }
            None => {
                take(&self.at_hand);
                self.at_hand.clear();
            }
        }
        Ok(())
    }
}

/// The GPU of a device that computes on one: a compiler has one too, and nothing on it.
fn computing(device: &Device) -> Option<&Gpu> {
    match &device.0.backend {
        Backend::Gpu(gpu) => Some(gpu),
        _ => None,
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.ledger_key.into_iter().for_each(|key| self.device.ledger().remove(key));
    }
}
