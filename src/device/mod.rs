//! Where kernels run: a GPU through wgpu, the CPU through the kernels' twins, or nowhere (a plan).
//!
//! The model and the trainer are written once against [`Device`] and [`Tensor`]; which of the three
//! carries a call out is decided here.

mod choice;
mod dots;
mod ledger;
mod real;
mod tensor;

use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Result, bail};

pub use choice::DeviceChoice;
pub use ledger::Allocation;
pub(crate) use real::sum_terms;
pub use real::{Matrix, MatrixMut, Real};
pub use tensor::{DType, Tensor};

use crate::gpu::{Gpu, STAGING_BYTES};
use crate::kernels::Kernel;
use ledger::Ledger;
use tensor::Data;
pub(crate) use tensor::to_bf16;

/// The floating-point type of a device's activations, gradients and moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits: the GPU's only precision and the CPU device's default.
    F32,
    /// 64 bits: the CPU device only; the reference for everything else.
    F64,
}

impl Precision {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::F64 => 8,
        }
    }
}

/// What a tensor may need at most, and what there is in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest tensor, in bytes.
    pub tensor_bytes: u64,
    /// The device's memory in bytes, where it is known.
    pub memory_bytes: Option<u64>,
    /// Whether the driver cuts long loops short: see [`MAX_TILES`](crate::kernels::MAX_TILES).
    pub short_loops: bool,
}

/// The machine's memory in bytes, or a container's share of it, where the system tells.
pub(crate) fn system_memory() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let total = system.total_memory();
    Some(system.cgroup_limits().map_or(total, |limits| limits.total_memory.min(total)))
}

/// A handle to where kernels run; clones share the device.
#[derive(Clone)]
pub struct Device(Arc<Shared>);

struct Shared {
    backend: Backend,
    /// A bound on tensors below the back end's own.
    tensor_bytes: u64,
    ledger: Mutex<Ledger>,
}

enum Backend {
    Gpu(Box<Gpu>),
    Cpu(Precision),
    Plan { precision: Precision, limits: Limits },
}

impl Device {
    fn new(backend: Backend) -> Self {
        Self(Arc::new(Shared { backend, tensor_bytes: u64::MAX, ledger: Mutex::default() }))
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

    /// What data passes through to a GPU and back takes memory too.
    fn count_transfers(&self) {
        for name in ["transfer/upload", "transfer/read-back"] {
            self.ledger().add(name, STAGING_BYTES);
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

    /// A device that allocates and computes nothing but keeps the ledger of `of`'s size limits: what is built
    /// on it is a memory plan.
    pub fn plan(of: &Device) -> Self {
        let device = Self::new(Backend::Plan { precision: of.precision(), limits: of.limits() });
        if of.as_gpu().is_some() {
            device.count_transfers();
        }
        device
    }

    /// The precision of [`DType::Real`] tensors here.
    pub fn precision(&self) -> Precision {
        match &self.0.backend {
            Backend::Gpu(_) => Precision::F32,
            Backend::Cpu(precision) | Backend::Plan { precision, .. } => *precision,
        }
    }

    /// The sizes that this device allows.
    pub fn limits(&self) -> Limits {
        let limits = match &self.0.backend {
            Backend::Gpu(gpu) => gpu.memory_limits(),
            Backend::Cpu(_) => Limits { tensor_bytes: u64::MAX, memory_bytes: system_memory(), short_loops: false },
            Backend::Plan { limits, .. } => *limits,
        };
        Limits { tensor_bytes: limits.tensor_bytes.min(self.0.tensor_bytes), ..limits }
    }

    /// What the user sees: the adapter's name and back end, or the CPU.
    pub fn description(&self) -> String {
        match &self.0.backend {
            Backend::Gpu(gpu) => gpu.description(),
            Backend::Cpu(precision) => {
                format!("CPU ({}, {} threads)", format!("{precision:?}").to_lowercase(), rayon::current_num_threads())
            }
            Backend::Plan { .. } => "plan".to_owned(),
        }
    }

    /// The GPU behind this device, where there is one: for timing and for what only it knows.
    pub fn as_gpu(&self) -> Option<&Gpu> {
        match &self.0.backend {
            Backend::Gpu(gpu) => Some(gpu),
            _ => None,
        }
    }

    /// A zeroed tensor.
    ///
    /// # Errors
    /// Names the tensor where it is larger than the device can bind or than the memory that is left.
    pub fn tensor(&self, name: impl Into<String>, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let name = name.into();
        let len = shape.iter().product::<usize>();
        let bytes = tensor::allocated_bytes(len, dtype, self.precision());
        let limit = self.limits().tensor_bytes;
        if bytes > limit {
            bail!(
                "{name} {shape:?} takes {} and this device holds at most {} in one tensor; \
                 use smaller batches (--tokens-per-micro-batch; for generation --batch-size, --eval-batch-size) \
                 or another --device",
                crate::format_bytes(bytes),
                crate::format_bytes(limit)
            );
        }
        let data = match &self.0.backend {
            Backend::Gpu(gpu) => Data::Gpu(gpu.create_buffer(&name, bytes)?),
            Backend::Cpu(precision) => Data::on_cpu(len, dtype, *precision),
            Backend::Plan { .. } => Data::Planned,
        };
        let key = self.ledger().add(&name, bytes);
        Ok(Tensor::new(name, shape, dtype, data, self.clone(), key))
    }

    /// Runs a kernel: recorded on a GPU (see [`Device::synchronize`]), at once on the CPU, only checked in a plan.
    ///
    /// # Panics
    /// Where a tensor's size, type or device does not fit the call: a mistake of the caller's code, not of its user.
    pub fn run<K: Kernel>(&self, mut kernel: K) {
        for binding in kernel.bindings() {
            assert!(
                Arc::ptr_eq(&binding.device().0, &self.0),
                "{}: {} is on another device",
                K::SIGNATURE.name,
                binding.name()
            );
        }
        kernel.check();
        match &self.0.backend {
            Backend::Gpu(gpu) => gpu.record(&kernel),
            Backend::Cpu(Precision::F32) => kernel.twin::<f32>(),
            Backend::Cpu(Precision::F64) => kernel.twin::<f64>(),
            Backend::Plan { .. } => {}
        }
    }

    /// Hands everything recorded to the GPU and waits for it; elsewhere nothing is ever pending.
    ///
    /// # Errors
    /// Where the device was lost or reported an error since the last call.
    pub fn synchronize(&self) -> Result<()> {
        match &self.0.backend {
            Backend::Gpu(gpu) => gpu.synchronize(),
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

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A ledger is whole between any two of its calls, so one that a panicking thread held is still good.
        self.0.ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
