//! An open GPU: buffers, recording, read-back, time and faults.

use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, Result, anyhow, bail};
use wgpu::{BufferUsages, ExperimentalFeatures, Features};

use super::activity::Activity;
use super::adapter::{check_requirements, describe};
use super::fault::Fault;
use super::launch::{Binding, Launch, Signature};
use super::limits::Limits;
use super::pipeline::{BuiltPipeline, Pipelines};
use super::rates::Rates;
use super::recorder::{Recorder, UPLOAD_BYTES};
use super::settings::Settings;
use super::traits::{MatrixUnits, Traits};
use crate::format::format_bytes;

/// An open GPU. All methods may be called from any thread; dispatches run in the order they were recorded.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    traits: Traits,
    limits: Limits,
    rates: Rates,
    fault: Fault,
    pub(super) recorder: Mutex<Recorder>,
    pipelines: Mutex<Pipelines>,
    pub(super) staging: Mutex<Option<wgpu::Buffer>>,
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
        let (wanted, experimental_features) = match settings.traits.matrices {
            // SAFETY: of what is experimental kernels use cooperative matrices alone, in uniform control flow, in workgroup memory
            // that they fit into; products are held against exact ones before the device is used.
            Some(_) => (wanted | MatrixUnits::FEATURES, unsafe { ExperimentalFeatures::enabled() }),
            None => (wanted, ExperimentalFeatures::disabled()),
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("dqo-wgpu"),
            required_features: wanted & adapter.features(),
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            experimental_features,
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
        describe(&self.info, self.device.features(), &self.device.limits(), self.traits.matrices)
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
        self.submit(&mut lock(&self.recorder))?;
        self.wait_for(None)?;
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

    /// Bytes that the driver's allocator holds, blocks that are not full included, where it reports them.
    pub fn allocator_bytes(&self) -> Option<u64> {
        self.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    pub(super) fn submit(&self, recorder: &mut Recorder) -> Result<()> {
        self.check()?;
        recorder.submit(&self.device, &self.queue).map_err(not_finished)?;
        self.check()
    }

    /// Waits for a submission and those before it; without one for all.
    pub(super) fn wait_for(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        lock(&self.recorder).wait_for(&self.device, submission).map_err(not_finished)
    }
}

fn not_finished(error: wgpu::PollError) -> anyhow::Error {
    anyhow!("the GPU did not finish its work: {error}")
}

/// What the mutexes here guard is whole between any two calls, so a lock that a panicking thread held is still good.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
