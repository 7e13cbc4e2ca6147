//! An open GPU: buffers, recording, read-back, time and faults.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use wgpu::{BufferUsages, Features};

use super::activity::Activity;
use super::adapter::{check_requirements, describe};
use super::fault::Fault;
use super::launch::{Binding, Launch, Signature};
use super::limits::Limits;
use super::pipeline::{BuiltPipeline, Pipelines};
use super::rates::Rates;
use super::recorder::{Recorder, TRANSFER_BYTES, UPLOAD_BYTES};
use super::settings::Settings;
use super::traits::Traits;
use crate::format::format_bytes;

/// An open GPU. All methods may be called from any thread; dispatches run in the order they were recorded.
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    traits: Traits,
    limits: Limits,
    rates: Rates,
    fault: Fault,
    recorder: Mutex<Recorder>,
    pipelines: Mutex<Pipelines>,
    staging: Mutex<Option<wgpu::Buffer>>,
}

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

impl Gpu {
    /// Opens an adapter with all it offers of what the kernels use.
    ///
    /// # Errors
    /// Where the adapter is too small (see [`check_requirements`]) or the driver refuses.
    pub fn open(adapter: &wgpu::Adapter) -> Result<Self> {
        Self::open_with(adapter, Settings::of(adapter))
    }

    /// As [`Gpu::open`], with the settings said.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_with(adapter: &wgpu::Adapter, settings: Settings) -> Result<Self> {
        let info = adapter.get_info();
        check_requirements(&info.name, adapter.features(), &adapter.limits())?;
        let wanted = Features::IMMEDIATES | Features::SUBGROUP | Features::TIMESTAMP_QUERY;
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("dqo-wgpu"),
            required_features: wanted & adapter.features(),
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        }))
        .with_context(|| format!("the driver of {} does not open it", info.name))?;

        let fault = Fault::default();
        let lost = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost.note(format!(
                    "the GPU was lost ({message}); the last checkpoint is whole, --resume goes on from it"
                ));
            }
        });
        let uncaptured = fault.clone();
        device.on_uncaptured_error(std::sync::Arc::new(move |error: wgpu::Error| {
            uncaptured.note(format!("the GPU reported: {error}"));
        }));
        Ok(Self {
            limits: Limits::of_adapter(&info, &device.limits()),
            device,
            queue,
            info,
            traits: settings.traits,
            rates: Rates::default(),
            fault,
            recorder: Mutex::default(),
            pipelines: Mutex::new(Pipelines::new(settings.checks)),
            staging: Mutex::default(),
        })
    }

    /// The adapter's name and back end.
    pub fn description(&self) -> String {
        format!("{} ({:?})", self.info.name, self.info.backend)
    }

    /// What tells the adapter from others of its machine.
    pub fn place(&self) -> String {
        format!("{} {}", self.info.name, self.info.device_pci_bus_id)
    }

    /// What the adapter is and offers.
    pub fn about(&self) -> serde_json::Map<String, serde_json::Value> {
        describe(&self.info, self.device.features(), &self.device.limits())
    }

    /// What kernels choose their variants by.
    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// The largest tensor and, where the system tells, the adapter's memory.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What its work is cut by.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// Says how fast it is.
    pub fn set_rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// What was recorded so far.
    pub fn activity(&self) -> Activity {
        lock(&self.recorder).activity
    }

    /// A zeroed buffer for kernels and copies.
    ///
    /// # Errors
    /// Names the tensor where the device has no memory left for it.
    pub fn create_buffer(&self, name: &str, bytes: u64) -> Result<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(name),
            size: bytes,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        match pollster::block_on(scope.pop()) {
            None => Ok(buffer),
            Some(_) => bail!(
                "{} is out of memory: no {} left for {name}; `dqo-wgpu plan` shows what takes it",
                self.info.name,
                format_bytes(bytes)
            ),
        }
    }

    /// Records a dispatch after all that was recorded before. A fault is kept for [`Gpu::check`].
    pub fn record(&self, signature: &Signature, launch: &Launch, bindings: &[Binding], immediates: &[u32]) {
        if self.fault.is_set() || launch.workgroups.contains(&0) {
            return;
        }
        if let Err(error) = self.try_record(signature, launch, bindings, immediates) {
            self.fault.note(format!("{error:#}"));
        }
    }

    fn try_record(
        &self,
        signature: &Signature,
        launch: &Launch,
        bindings: &[Binding],
        immediates: &[u32],
    ) -> Result<()> {
        // Not held below: the recorder may wait for the GPU.
        let (compute, bind_group) = {
            let mut pipelines = lock(&self.pipelines);
            let pipeline = pipelines.get(&self.device, signature, launch)?;
            let bind_group = pipeline.bind_group(&self.device, bindings).with_context(|| {
                let names: Vec<_> = bindings.iter().map(|binding| binding.tensor).collect();
                format!("kernel {} with {}", signature.name, names.join(", "))
            })?;
            let bind_group = bind_group.clone();
            (pipeline.compute.clone(), bind_group)
        };

        let mut recorder = lock(&self.recorder);
        let pass = recorder.pass(&self.device, launch.cost.seconds(self.rates));
        pass.set_pipeline(&compute);
        pass.set_bind_group(0, &bind_group, &[]);
        if !immediates.is_empty() {
            pass.set_immediates(0, bytemuck::cast_slice(immediates));
        }
        let [x, y, z] = launch.workgroups;
        pass.dispatch_workgroups(x, y, z);
        if recorder.is_full() {
            self.submit(&mut recorder)?;
        }
        Ok(())
    }

    /// Builds the pipeline of a launch, where it is new, and dispatches nothing. A fault is kept for [`Gpu::check`].
    pub fn build(&self, signature: &Signature, launch: &Launch) {
        if self.fault.is_set() || launch.workgroups.contains(&0) {
            return;
        }
        if let Err(error) = lock(&self.pipelines).get(&self.device, signature, launch) {
            self.fault.note(format!("{error:#}"));
        }
    }

    /// The pipelines that were built after the first `known`, oldest first.
    pub fn built_since(&self, known: usize) -> Vec<BuiltPipeline> {
        lock(&self.pipelines).built().get(known..).unwrap_or_default().to_vec()
    }

    /// Writes bytes into a buffer, after all that was recorded before.
    ///
    /// # Errors
    /// Where the device has a fault.
    pub fn upload(&self, name: &str, buffer: &wgpu::Buffer, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check().with_context(|| format!("before writing {name}"))?;
        let mut recorder = lock(&self.recorder);
        let mut offset = offset as u64;
        for part in bytes.chunks(UPLOAD_BYTES as usize) {
            if !recorder.has_room_for(part) {
                self.submit(&mut recorder)?;
            }
            recorder.write(&self.device, buffer, offset, part);
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Reads parts of buffers, after all that was recorded before: waits once where they are no more than
    /// [`TRANSFER_BYTES`].
    ///
    /// # Errors
    /// Where the device has a fault, now or by the time it is done.
    pub fn download(&self, parts: &[BufferPart]) -> Result<Vec<Vec<u8>>> {
        let mut read: Vec<Vec<u8>> = parts.iter().map(|part| Vec::with_capacity(part.size)).collect();
        let mut staging = lock(&self.staging);
        let sizes: Vec<usize> = parts.iter().map(|part| part.size).collect();
        for load in loads(&sizes, TRANSFER_BYTES as usize) {
            let names = || load.iter().map(|piece| parts[piece.part].tensor).collect::<Vec<_>>().join(", ");
            self.download_load(&mut staging, parts, &load, &mut read)
                .with_context(|| format!("reading {}", names()))?;
        }
        Ok(read)
    }

    /// Reads what is read with one wait.
    fn download_load(
        &self,
        staging: &mut Option<wgpu::Buffer>,
        parts: &[BufferPart],
        load: &[Piece],
        read: &mut [Vec<u8>],
    ) -> Result<()> {
        let target = staging.get_or_insert_with(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: TRANSFER_BYTES,
                usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let mut recorder = lock(&self.recorder);
        let encoder = recorder.encoder(&self.device);
        for piece in load {
            let BufferPart { buffer, offset, .. } = parts[piece.part];
            let (from, to) = ((offset + piece.start) as u64, piece.place as u64);
            encoder.copy_buffer_to_buffer(buffer, from, target, to, piece.size.next_multiple_of(4) as u64);
        }
        self.submit(&mut recorder)?;
        let slice = target.slice(..);
        let (sender, receiver) = std::sync::mpsc::channel();
        slice.map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result); // the receiver is gone only where waiting failed
        });
        self.wait(&mut recorder)?;
        receiver.recv().context("the GPU did not answer")??;
        let view = slice.get_mapped_range().map_err(|error| anyhow!("{error}"))?;
        for piece in load {
            read[piece.part].extend_from_slice(&view[piece.place..][..piece.size]);
        }
        drop(view);
        target.unmap();
        self.check()
    }

    /// Hands what is recorded to the GPU, which begins with it while the host goes on. A fault is kept for [`Gpu::check`].
    pub fn begin(&self) {
        let mut recorder = lock(&self.recorder);
        if let Err(error) = self.submit(&mut recorder) {
            self.fault.note(format!("{error:#}"));
        }
    }

    /// Submits all that is recorded and waits until it is done.
    ///
    /// # Errors
    /// Where the device has a fault by then.
    pub fn synchronize(&self) -> Result<()> {
        let mut recorder = lock(&self.recorder);
        self.submit(&mut recorder)?;
        self.wait(&mut recorder)?;
        self.check()
    }

    /// # Errors
    /// The device's first fault, where it had one.
    pub fn check(&self) -> Result<()> {
        self.fault.check()
    }

    /// Drops what holds a buffer that is about to be freed.
    pub fn forget(&self, buffer: &wgpu::Buffer) {
        lock(&self.pipelines).forget(buffer);
    }

    /// Seconds that the dispatches of `work` take: by the GPU's timestamps where it has them, else by the clock.
    ///
    /// # Errors
    /// Where the device has a fault by then.
    pub fn measure(&self, work: impl FnOnce()) -> Result<f64> {
        self.synchronize()?;
        if !self.device.features().contains(Features::TIMESTAMP_QUERY) {
            let start = Instant::now();
            work();
            self.synchronize()?;
            return Ok(start.elapsed().as_secs_f64());
        }
        let query_set = self.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("time"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let resolved = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size: 16,
            usage: BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        lock(&self.recorder).timestamps = Some(query_set.clone());
        work();
        {
            let mut recorder = lock(&self.recorder);
            recorder.timestamps = None;
            recorder.encoder(&self.device).resolve_query_set(&query_set, 0..2, &resolved, 0);
        }
        let part = BufferPart { tensor: "timestamps", buffer: &resolved, offset: 0, size: 16 };
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.download(&[part])?[0]);
        Ok(ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.queue.get_timestamp_period()) * 1e-9)
    }

    /// Bytes that the driver's allocator holds, blocks that are not full included, where it reports them.
    pub fn allocator_bytes(&self) -> Option<u64> {
        self.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    fn submit(&self, recorder: &mut Recorder) -> Result<()> {
        self.check()?;
        recorder
            .submit(&self.device, &self.queue)
            .map_err(|error| anyhow!("the GPU did not finish its work: {error}"))?;
        self.check()
    }

    fn wait(&self, recorder: &mut Recorder) -> Result<()> {
        recorder.wait(&self.device).map_err(|error| anyhow!("the GPU did not finish its work: {error}"))
    }
}

/// What the mutexes here guard is whole between any two calls, so a lock that a panicking thread held is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
