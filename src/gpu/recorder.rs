//! Dispatches on their way to the queue: many in one compute pass, a bounded amount of work in one submission.

use std::collections::VecDeque;
use std::time::Instant;

use super::activity::Activity;

/// The work that one submission may hold, in seconds of [`super::launch::Cost::seconds`]: Windows ends one that
/// takes 2 s, and a real GPU may be slower than the estimate.
const SECONDS_PER_SUBMISSION: f64 = 0.2;

/// Submissions that may be in flight: one runs while the next is recorded.
const MAX_IN_FLIGHT: usize = 2;

/// The size of the read-back buffer, and of what is on its way to the GPU at most: more is moved in parts.
pub const TRANSFER_BYTES: u64 = 4 << 20;

/// The bytes that one submission brings along for tensors. They exist in the buffer that they pass through, and once more
/// in every submission that is in flight or on its way there.
pub const UPLOAD_BYTES: u64 = TRANSFER_BYTES / (MAX_IN_FLIGHT as u64 + 2);

/// What is recorded and what is in flight.
#[derive(Default)]
pub struct Recorder {
    // Dropped in this order: the pass ends before its encoder.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    seconds: f64,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    pub activity: Activity,
    /// What the recorded copies take from `passage`, which gets it when they are submitted.
    uploads: Vec<u8>,
    passage: Option<wgpu::Buffer>,
    /// While a caller measures, all is recorded into one submission, between two timestamps.
    pub timestamps: Option<wgpu::QuerySet>,
}

impl Recorder {
    /// The pass to record a dispatch of `seconds` into.
    pub fn pass(&mut self, device: &wgpu::Device, seconds: f64) -> &mut wgpu::ComputePass<'static> {
        self.seconds += seconds;
        self.activity.dispatches += 1;
        let encoder = self.encoder.get_or_insert_with(|| device.create_command_encoder(&Default::default()));
        self.pass.get_or_insert_with(|| {
            let timestamp_writes = self.timestamps.as_ref().map(|query_set| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            encoder.begin_compute_pass(&descriptor).forget_lifetime()
        })
    }

    /// The encoder, outside any pass: for copies, in order with the dispatches.
    pub fn encoder(&mut self, device: &wgpu::Device) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }

    /// Whether so many bytes more can be written before the next submission.
    pub fn has_room_for(&self, bytes: &[u8]) -> bool {
        (self.uploads.len() + bytes.len()) as u64 <= UPLOAD_BYTES
    }

    /// Writes bytes for which there is room into a buffer, in order with the dispatches.
    pub fn write(&mut self, device: &wgpu::Device, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        let start = self.uploads.len() as u64;
        self.uploads.extend_from_slice(bytes);
        let passage = self.passage.get_or_insert_with(|| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("upload"),
                size: UPLOAD_BYTES,
                usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let passage = passage.clone();
        self.encoder(device).copy_buffer_to_buffer(&passage, start, buffer, offset, bytes.len() as u64);
    }

    /// Whether the work recorded should be submitted before more is added.
    pub fn is_full(&self) -> bool {
        self.seconds > SECONDS_PER_SUBMISSION && self.timestamps.is_none()
    }

    /// Hands what is recorded to the queue, and waits until few enough submissions are in flight.
    pub fn submit(&mut self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<(), wgpu::PollError> {
        self.pass = None;
        self.seconds = 0.0;
        let Some(encoder) = self.encoder.take() else {
            return Ok(());
        };
        if let Some(passage) = self.passage.as_ref().filter(|_| !self.uploads.is_empty()) {
            queue.write_buffer(passage, 0, &self.uploads);
            self.uploads.clear();
        }
        self.in_flight.push_back(queue.submit([encoder.finish()]));
        self.activity.submissions += 1;
        while self.in_flight.len() > MAX_IN_FLIGHT {
            let oldest = self.in_flight.pop_front();
            self.poll(device, wgpu::PollType::Wait { submission_index: oldest, timeout: None })?;
        }
        Ok(())
    }

    /// The last submission that may not have ended.
    pub fn newest(&self) -> Option<wgpu::SubmissionIndex> {
        self.in_flight.back().cloned()
    }

    /// Waits for a submission and those before it; without one for everything that was submitted.
    pub fn wait_for(
        &mut self,
        device: &wgpu::Device,
        submission: Option<wgpu::SubmissionIndex>,
    ) -> Result<(), wgpu::PollError> {
        self.poll(device, wgpu::PollType::Wait { submission_index: submission, timeout: None })
    }

    fn poll(&mut self, device: &wgpu::Device, until: wgpu::PollType) -> Result<(), wgpu::PollError> {
        let start = Instant::now();
        let polled = device.poll(until);
        self.activity.seconds_waiting += start.elapsed().as_secs_f64();
        polled.map(|_| ())
    }
}
