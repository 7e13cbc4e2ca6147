//! Where kernels run: a GPU through wgpu, the CPU through the kernels' twins, or nowhere (a plan; a compiler).

use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;

use super::data::{Data, Precision};
use super::ledger::{Allocation, Ledger};
use super::matmul_precision::{MatmulPrecision, ROOM, ROOM_BYTES};
use crate::gpu::{Gpu, Limits, Rates, TRANSFER_BYTES, system_memory};

/// A handle to where kernels run; clones share the device.
#[derive(Clone)]
pub struct Device(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub backend: Backend,
    /// A bound on tensors below the back end's own.
    tensor_bytes: u64,
    ledger: Mutex<Ledger>,
    /// As it was asked for.
    matmul_precision: MatmulPrecision,
    /// The room for the magnitudes of a product's rows and columns, where it needs them.
    pub magnitudes: Mutex<Data>,
}

pub(super) enum Backend {
    Gpu(Box<Gpu>),
    Cpu(Precision),
    Plan { precision: Precision, limits: Limits, of_gpu: bool },
    Compiler(Box<Gpu>),
}

impl Device {
    fn new(backend: Backend) -> Self {
        Self(Arc::new(Shared {
            backend,
            tensor_bytes: u64::MAX,
            ledger: Mutex::default(),
            matmul_precision: MatmulPrecision::default(),
            magnitudes: Mutex::new(Data::Planned),
        }))
    }

    /// The CPU device: every kernel runs as its twin.
    pub fn cpu(precision: Precision) -> Self {
        Self::new(Backend::Cpu(precision))
    }

    /// A GPU that [`Gpu::open`] has opened.
    pub fn gpu(gpu: Gpu) -> Self {
        let device = Self::new(Backend::Gpu(Box::new(gpu)));
        device.count_transfers();
        device
    }

    /// A device that allocates and computes nothing but builds the pipelines of what is run on it: also on an adapter that
    /// computes wrongly.
    pub fn compiler(gpu: Gpu) -> Self {
        Self::new(Backend::Compiler(Box::new(gpu)))
    }

    /// What data passes through to a GPU and back takes memory too.
    fn count_transfers(&self) {
        for name in ["transfer/upload", "transfer/read-back"] {
            self.ledger().add(name, TRANSFER_BYTES);
        }
    }

    /// This device with smaller tensors: weights are cut as they are where a binding is small.
    ///
    /// # Panics
    /// Where the device is in use already.
    pub fn limited_to(mut self, tensor_bytes: u64) -> Self {
        Arc::get_mut(&mut self.0).expect("a device that is not in use yet").tensor_bytes = tensor_bytes;
        self
    }

    /// This device, whose work is cut by these rates where it is a GPU. Its peak of memory begins anew: what was allocated to
    /// measure them does not count.
    ///
    /// # Panics
    /// Where the device is in use already.
    pub fn with_rates(mut self, rates: Rates) -> Self {
        let shared = Arc::get_mut(&mut self.0).expect("a device that is not in use yet");
        if let Backend::Gpu(gpu) = &mut shared.backend {
            gpu.set_rates(rates);
        }
        self.ledger().restart_peak();
        self
    }

    /// A device that allocates and computes nothing but keeps the ledger of `of`'s size limits: what is built
    /// on it is a memory plan.
    pub fn plan(of: &Device) -> Self {
        let of_gpu = of.computes_apart();
        let device = Self::new(Backend::Plan { precision: of.precision(), limits: of.limits(), of_gpu });
        if of_gpu {
            device.count_transfers();
        }
        let precision = of.matmul_precision();
        if precision != MatmulPrecision::Highest {
            device.ledger().add(ROOM, ROOM_BYTES);
        }
        device.with_room(precision, Data::Planned)
    }

    /// This device, whose large products are so precise, with room for what they need.
    pub(super) fn with_room(mut self, precision: MatmulPrecision, room: Data) -> Self {
        let shared = Arc::get_mut(&mut self.0).expect("a device that is not in use yet");
        shared.matmul_precision = precision;
        shared.magnitudes = Mutex::new(room);
        self
    }

    /// How precise large products are here: as was asked for, but f32 on a GPU without matrix units.
    pub fn matmul_precision(&self) -> MatmulPrecision {
        let has_units = self.as_gpu().is_none_or(|gpu| gpu.traits().matrices.is_some());
        if has_units { self.0.matmul_precision } else { MatmulPrecision::Highest }
    }

    /// The precision of [`DType::Real`](super::DType::Real) tensors here.
    pub fn precision(&self) -> Precision {
        match &self.0.backend {
            Backend::Gpu(_) | Backend::Compiler(_) => Precision::F32,
            Backend::Cpu(precision) | Backend::Plan { precision, .. } => *precision,
        }
    }

    /// The sizes that this device allows.
    pub fn limits(&self) -> Limits {
        let limits = match &self.0.backend {
            Backend::Gpu(gpu) | Backend::Compiler(gpu) => gpu.limits(),
            Backend::Cpu(_) => Limits { tensor_bytes: u64::MAX, memory_bytes: system_memory(), short_loops: false },
            Backend::Plan { limits, .. } => *limits,
        };
        Limits { tensor_bytes: limits.tensor_bytes.min(self.0.tensor_bytes), ..limits }
    }

    /// What work is cut into dispatches by. Nothing waits for the CPU's twins: they compute it whole.
    pub fn rates(&self) -> Rates {
        self.as_gpu().map_or(Rates::MOST, Gpu::rates)
    }

    /// What the user sees: the adapter's name and back end, or the CPU, and how products are computed where not as precisely as can
    /// be.
    pub fn description(&self) -> String {
        let name = self.name();
        match (self.0.matmul_precision, self.as_gpu().map(|gpu| gpu.traits().matrices)) {
            (MatmulPrecision::Highest, Some(Some(units))) => format!("{name}, large products on {units} of f32"),
            (MatmulPrecision::Highest, _) => name,
            (precision, None) => format!("{name}, large products {precision}"),
            (precision, Some(Some(units))) => format!("{name}, large products {precision} on {units}"),
            (_, Some(None)) => format!("{name}, products in f32: it has no matrix units that pass the tests"),
        }
    }

    fn name(&self) -> String {
        match &self.0.backend {
            Backend::Gpu(gpu) | Backend::Compiler(gpu) => gpu.description(),
            Backend::Cpu(precision) => {
                format!("CPU ({}, {} threads)", format!("{precision:?}").to_lowercase(), rayon::current_num_threads())
            }
            Backend::Plan { .. } => "plan".to_owned(),
        }
    }

    /// What results depend on to the bit: the CPU device's do not on the number of its threads, a GPU's do on its kind and driver.
    pub fn kind(&self) -> String {
        let kind =
            self.as_gpu().map_or_else(|| "CPU".to_owned(), |gpu| format!("{} {:?}", gpu.description(), gpu.traits()));
        match self.matmul_precision() {
            MatmulPrecision::Highest => kind,
            precision => format!("{kind} {precision}"),
        }
    }

    /// Whether tensors here hold nothing: of a memory plan, or where pipelines alone are built.
    pub fn holds_nothing(&self) -> bool {
        matches!(self.0.backend, Backend::Plan { .. } | Backend::Compiler(_))
    }

    /// The GPU of this device, where there is one: for timing and for what only it knows.
    pub fn as_gpu(&self) -> Option<&Gpu> {
        match &self.0.backend {
            Backend::Gpu(gpu) | Backend::Compiler(gpu) => Some(gpu),
            _ => None,
        }
    }

    /// Whether it computes what it was handed while the host goes on, or plans for what does.
    pub fn computes_apart(&self) -> bool {
        matches!(self.0.backend, Backend::Gpu(_) | Backend::Plan { of_gpu: true, .. })
    }

    /// Whether this is a GPU, and not the CPU device or an adapter that is a CPU.
    pub fn is_real_gpu(&self) -> bool {
        self.as_gpu().is_some_and(|gpu| !gpu.traits().software)
    }

    /// Hands everything recorded to the GPU, which begins with it while the caller goes on; elsewhere nothing is ever pending.
    pub fn begin(&self) {
        if let Backend::Gpu(gpu) = &self.0.backend {
            gpu.begin();
        }
    }

    /// Hands everything recorded to the GPU and waits for it; elsewhere nothing is ever pending.
    ///
    /// # Errors
    /// Where the device was lost or reported an error since the last call.
    pub fn synchronize(&self) -> Result<()> {
        match &self.0.backend {
            Backend::Gpu(gpu) => gpu.synchronize(),
            Backend::Compiler(gpu) => gpu.check(),
            _ => Ok(()),
        }
    }

    /// Live allocations, oldest first.
    pub fn allocations(&self) -> Vec<Allocation> {
        self.ledger().live()
    }

    /// Bytes allocated now.
    pub fn allocated_bytes(&self) -> u64 {
        self.ledger().total()
    }

    /// The most bytes that were allocated at once.
    pub fn peak_bytes(&self) -> u64 {
        self.ledger().peak()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A ledger is whole between any two of its calls, so one that a panicking thread held is still good.
        self.0.ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
