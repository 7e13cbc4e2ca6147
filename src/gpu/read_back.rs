//! Reading buffers back, in loads: at once, or while the GPU goes on.

use std::sync::mpsc::Receiver;

use anyhow::{Context, Result, anyhow};
use wgpu::BufferUsages;

use super::handle::{Gpu, lock};
use super::recorder::TRANSFER_BYTES;

/// A part of a tensor's buffer that is read, in bytes.
#[derive(Clone, Copy)]
pub struct BufferPart<'a> {
    /// The tensor's name, for errors.
    pub tensor: &'a str,
    pub buffer: &'a wgpu::Buffer,
    /// A multiple of 4.
    pub offset: usize,
    pub size: usize,
}

/// Some of what is read of a part, and where in the read-back buffer it passes.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    part: usize,
    /// The first byte of the part.
    start: usize,
    place: usize,
    size: usize,
}

/// Packs parts of these sizes into loads of at most `room` bytes; all begin at multiples of 4.
fn loads(sizes: &[usize], room: usize) -> Vec<Vec<Piece>> {
    let mut loads = Vec::new();
    let (mut load, mut end) = (Vec::new(), 0);
    for (part, &size) in sizes.iter().enumerate() {
        let mut start = 0;
        while start < size {
            if end == room {
                loads.push(std::mem::take(&mut load));
                end = 0;
            }
            let piece = (size - start).min(room - end);
            load.push(Piece { part, start, place: end, size: piece });
            start += piece;
            end = (end + piece).next_multiple_of(4);
        }
    }
    loads.extend((!load.is_empty()).then_some(load));
    loads
}

/// A load on its way to the host.
pub struct Load {
    pub staging: wgpu::Buffer,
    submission: Option<wgpu::SubmissionIndex>,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Gpu {
    /// Reads parts of buffers, after all that was recorded before: waits once where they are no more than
    /// [`TRANSFER_BYTES`].
    ///
    /// # Errors
    /// Where the device has a fault, now or by the time it is done.
    pub fn download(&self, parts: &[BufferPart]) -> Result<Vec<Vec<u8>>> {
        let mut read: Vec<Vec<u8>> = parts.iter().map(|part| Vec::with_capacity(part.size)).collect();
        let mut staging = lock(&self.staging);
        let sizes: Vec<usize> = parts.iter().map(|part| part.size).collect();
        for pieces in loads(&sizes, TRANSFER_BYTES as usize) {
            let buffer = staging.get_or_insert_with(|| self.create_staging());
            for piece in &pieces {
                let part = parts[piece.part];
                self.copy_out(
                    BufferPart { offset: part.offset + piece.start, size: piece.size, ..part },
                    buffer,
                    piece.place,
                );
            }
            let names = || pieces.iter().map(|piece| parts[piece.part].tensor).collect::<Vec<_>>().join(", ");
            let take = |bytes: &[u8]| {
                for piece in &pieces {
                    read[piece.part].extend_from_slice(&bytes[piece.place..][..piece.size]);
                }
            };
            let sent = self.send_out(vec![buffer.clone()]);
            sent.and_then(|loads| self.receive(&loads[0], take)).with_context(|| format!("reading {}", names()))?;
        }
        Ok(read)
    }

    /// A buffer that loads of [`TRANSFER_BYTES`] pass through.
    pub fn create_staging(&self) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: TRANSFER_BYTES,
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// Copies a part to a place of a load, a multiple of 4, after all that was recorded before.
    pub fn copy_out(&self, part: BufferPart, staging: &wgpu::Buffer, place: usize) {
        let mut recorder = lock(&self.recorder);
        let size = part.size.next_multiple_of(4) as u64;
        let encoder = recorder.encoder(&self.device);
        encoder.copy_buffer_to_buffer(part.buffer, part.offset as u64, staging, place as u64, size);
    }

    /// Hands all that is recorded to the GPU; what was copied out can be received when it has come so far.
    ///
    /// # Errors
    /// Where the device has a fault.
    pub fn send_out(&self, staging: Vec<wgpu::Buffer>) -> Result<Vec<Load>> {
        let mut recorder = lock(&self.recorder);
        self.submit(&mut recorder)?;
        let load = |staging: wgpu::Buffer| {
            let (sender, mapped) = std::sync::mpsc::channel();
            staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
                let _ = sender.send(result); // the receiver is gone only where waiting failed
            });
            Load { staging, submission: recorder.newest(), mapped }
        };
        Ok(staging.into_iter().map(load).collect())
    }

    /// Waits for a load, whose bytes `take` gets; its buffer is free then.
    ///
    /// # Errors
    /// Where the device has a fault by the time it is done.
    pub fn receive(&self, load: &Load, take: impl FnOnce(&[u8])) -> Result<()> {
        let Load { staging, submission, mapped } = load;
        self.wait_for(submission.clone())?;
        mapped.recv().context("the GPU did not answer")??;
        let slice = staging.slice(..);
        let view = slice.get_mapped_range().map_err(|error| anyhow!("{error}"))?;
        take(&view);
        drop(view);
        staging.unmap();
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_in_as_few_loads_as_hold_them() {
        let piece = |part, start, place, size| Piece { part, start, place, size };
        assert_eq!(loads(&[6, 0, 4], 16), [[piece(0, 0, 0, 6), piece(2, 0, 8, 4)]]);
        let cut = [vec![piece(0, 0, 0, 5), piece(1, 0, 8, 8)], vec![piece(1, 8, 0, 16)], vec![piece(1, 24, 0, 1)]];
        assert_eq!(loads(&[5, 25], 16), cut);
        assert_eq!(loads(&[0], 16), [] as [Vec<Piece>; 0]);
    }
}
