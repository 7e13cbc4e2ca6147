//! What a kernel is: a call with named tensors and parameters, its launch on a GPU, and its CPU twin.

use std::sync::Arc;

use super::data::Precision;
use super::handle::{Backend, Device};
use super::real::Real;
use super::tensor::Tensor;
use crate::gpu::{Binding, Launch, Signature, Traits};

/// The part of a kernel that repeats its shader's header; written by `kernel!`.
pub trait Call {
    /// Name, bindings, parameters and variants.
    const SIGNATURE: &'static Signature;

    /// The tensors, in binding order.
    fn bindings(&self) -> Vec<&Tensor>;

    /// The parameters as words, in order: the shader's `var<immediate>`.
    fn immediates(&self) -> Vec<u32>;

    /// Runs the twin in a device's precision. (Written here and not where kernels are run, so that a twin is compiled once.)
    fn run_twin(&mut self, precision: Precision);
}

/// One call of a kernel: named tensors and parameters, checked, and its CPU twin.
pub trait Kernel: Call {
    /// Checks every tensor's size against what the kernel reaches.
    ///
    /// # Panics
    /// Where one is too small.
    fn check(&self);

    /// How an adapter with these traits runs the call. The choice depends on nothing else, so that a run repeats.
    fn launch(&self, traits: Traits) -> Launch;

    /// The same function on the CPU: same names, same order.
    fn twin<T: Real>(&mut self);
}

impl Device {
    /// Runs a kernel: recorded on a GPU (see [`Device::synchronize`]), at once on the CPU, only checked in a plan, and only
    /// built by a compiler.
    ///
    /// # Panics
    /// Where a tensor's size, type or device does not fit the call: a mistake of the caller's code, not of its user.
    pub fn run<K: Kernel>(&self, mut kernel: K) {
        let tensors = kernel.bindings();
        for tensor in &tensors {
            assert!(
                Arc::ptr_eq(&tensor.device().0, &self.0),
                "{}: {} is on another device",
                K::SIGNATURE.name,
                tensor.name()
            );
        }
        kernel.check();
        match &self.0.backend {
            Backend::Gpu(gpu) => {
                let bindings: Vec<Binding> = tensors.iter().map(|tensor| tensor.binding()).collect();
                gpu.record(K::SIGNATURE, &kernel.launch(gpu.traits()), &bindings, &kernel.immediates());
            }
            Backend::Cpu(precision) => kernel.run_twin(*precision),
            Backend::Plan { .. } => {}
            Backend::Compiler(gpu) => gpu.build(K::SIGNATURE, &kernel.launch(gpu.traits())),
        }
    }
}

/// A parameter of a kernel: one word of `var<immediate>`.
pub trait Param: Copy {
    /// The WGSL type.
    const WGSL: &'static str;
    /// The bits.
    fn word(self) -> u32;
}

impl Param for u32 {
    const WGSL: &'static str = "u32";
    fn word(self) -> u32 {
        self
    }
}

impl Param for f32 {
    const WGSL: &'static str = "f32";
    fn word(self) -> u32 {
        self.to_bits()
    }
}

/// Declares a kernel: the struct of its call, with tensors and parameters in the order of the shader's header, and
/// the [`Call`] that follows from that order.
///
/// ```text
/// kernel! {
///     /// What it computes.
///     pub struct RmsNorm in "rms_norm" of VARIANTS {
///         /// Shape and meaning.
///         read x,
///         write y,
///         ;
///         /// Meaning.
///         rows: u32,
///         ; // and, where the grid depends on more than the shader reads:
///         tiles: u32,
///     }
/// }
/// ```
#[macro_export]
macro_rules! kernel {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident in $file:literal of $variants:ident {
            $( $(#[$tensor_doc:meta])* $access:ident $tensor:ident, )*
            ;
            $( $(#[$param_doc:meta])* $param:ident : $type:ty, )*
            $(; $( $(#[$host_doc:meta])* $host:ident : $host_type:ty, )* )?
        }
    ) => {
        $(#[doc = $doc])*
        pub struct $name<'a> {
            $( $(#[$tensor_doc])* pub $tensor: $crate::kernel!(@reference 'a $access), )*
            $( $(#[$param_doc])* pub $param: $type, )*
            $( $( $(#[$host_doc])* pub $host: $host_type, )* )?
        }

        impl $crate::device::Call for $name<'_> {
            const SIGNATURE: &'static $crate::gpu::Signature = &$crate::gpu::Signature {
                name: $file,
                about: concat!($($doc),*),
                bindings: &[ $( (stringify!($tensor), $crate::kernel!(@access $access)) ),* ],
                params: &[ $( (stringify!($param), <$type as $crate::device::Param>::WGSL) ),* ],
                variants: &$variants,
            };

            fn bindings(&self) -> Vec<&$crate::device::Tensor> {
                vec![ $( &*self.$tensor ),* ]
            }

            fn immediates(&self) -> Vec<u32> {
                vec![ $( $crate::device::Param::word(self.$param) ),* ]
            }

            fn run_twin(&mut self, precision: $crate::device::Precision) {
                match precision {
                    $crate::device::Precision::F32 => $crate::device::Kernel::twin::<f32>(self),
                    $crate::device::Precision::F64 => $crate::device::Kernel::twin::<f64>(self),
                }
            }
        }
    };
    (@reference $lifetime:lifetime read) => { &$lifetime $crate::device::Tensor };
    (@reference $lifetime:lifetime index) => { &$lifetime $crate::device::Tensor };
    (@reference $lifetime:lifetime write) => { &$lifetime mut $crate::device::Tensor };
    (@access read) => { $crate::gpu::Access::Read };
    (@access index) => { $crate::gpu::Access::Index };
    (@access write) => { $crate::gpu::Access::Write };
}
pub use kernel;

/// A size or a place as a kernel's parameter.
///
/// # Panics
/// Where it does not fit: no tensor has so many elements (see [`Device::tensor`](super::Device::tensor)).
#[track_caller]
pub fn word(size: usize) -> u32 {
    u32::try_from(size).unwrap_or_else(|_| panic!("a kernel's parameter of {size} is above 2^32 - 1"))
}

/// Asserts that a tensor holds at least `len` elements.
///
/// # Panics
/// Names the kernel and the tensor where it does not.
#[track_caller]
pub fn reaches<K: Call>(tensor: &Tensor, len: usize) {
    assert!(
        tensor.len() >= len,
        "{}: {} holds {} elements, needs {len}",
        K::SIGNATURE.name,
        tensor.name(),
        tensor.len()
    );
}
