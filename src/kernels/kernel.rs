//! What a kernel is: its signature, its variants, one call of it.

use crate::device::{Real, Tensor};
use crate::gpu::Traits;

/// The part of a kernel that repeats its shader's header; written by `kernel!`.
pub trait Call {
    /// Name, bindings, parameters and variants.
    const SIGNATURE: &'static Signature;

    /// The tensors, in binding order.
    fn bindings(&self) -> Vec<&Tensor>;

    /// The parameters as words, in order: the shader's `var<immediate>`.
    fn immediates(&self) -> Vec<u32>;
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

/// A kernel's name and interface; a test holds the shaders against it.
#[derive(Debug)]
pub struct Signature {
    /// The name of the shader, the module, the test and the bench row.
    pub name: &'static str,
    /// The call's documentation; its first sentence is the formula.
    pub about: &'static str,
    /// Names in binding order, and whether the kernel writes to it.
    pub bindings: &'static [(&'static str, Access)],
    /// Names and WGSL types of the parameters, in order.
    pub params: &'static [(&'static str, &'static str)],
    /// The texts that compute it.
    pub variants: &'static [Variant],
}

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

/// One text of a kernel: a shader file and the shared files that complete it.
#[derive(Debug)]
pub struct Variant {
    /// What tells it from the kernel's other variants; empty for the only one.
    pub name: &'static str,
    /// The shader file.
    pub source: &'static str,
    /// Shared files, put behind the source so that a message's line number is the file's.
    pub includes: &'static [&'static str],
    /// Whether it needs `Features::SUBGROUP`.
    pub subgroups: bool,
}

impl Signature {
    /// What the kernel computes, in Markdown: the first sentence of its documentation.
    pub fn formula(&self) -> String {
        let about = self.about.trim();
        // A full stop, not the point of a product: a capital follows.
        let stops = about.match_indices(". ").map(|(stop, _)| stop);
        let end = stops.into_iter().find(|&stop| about[stop + 2..].starts_with(|c: char| c.is_uppercase() || c == '('));
        let sentence = about[..end.unwrap_or(about.len())].trim_end_matches('.');
        sentence.replace("[`", "`").replace("`]", "`")
    }
}

impl Variant {
    /// The whole text.
    pub fn text(&self) -> String {
        std::iter::once(&self.source).chain(self.includes).copied().collect::<Vec<_>>().join("\n")
    }

    /// `kernel` or `kernel (variant)`.
    pub fn label(&self, signature: &Signature) -> String {
        if self.name.is_empty() { signature.name.to_owned() } else { format!("{} ({})", signature.name, self.name) }
    }
}

/// A dispatch.
pub struct Launch {
    /// Which text.
    pub variant: &'static Variant,
    /// Values of its `override` constants.
    pub constants: Vec<(&'static str, f64)>,
    /// The grid, in workgroups.
    pub workgroups: [u32; 3],
    /// The work in it.
    pub cost: Cost,
}

/// The work of a dispatch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations; a fused multiply-add is two.
    pub flops: f64,
    /// Bytes of memory moved at least.
    pub bytes: f64,
}

impl Cost {
    /// Seconds on a slow GPU (100 GFLOP/s, 10 GB/s): what keeps dispatches and submissions short everywhere.
    pub fn seconds(self) -> f64 {
        self.flops / 1e11 + self.bytes / 1e10
    }
}

/// What one dispatch may take at most, in seconds of [`Cost::seconds`].
const SECONDS_PER_DISPATCH: f64 = 0.05;

impl Cost {
    /// How many of `count` equal parts that each cost this go into one dispatch; at least one.
    pub fn per_dispatch(self, count: usize) -> usize {
        ((SECONDS_PER_DISPATCH / self.seconds()) as usize).clamp(1, count.max(1))
    }
}

/// The widest row of a dispatch's grid; `GRID_WIDTH` in `shared/grid.wgsl`.
pub const GRID_WIDTH: u32 = 32768;

/// A grid for `count` workgroups in a line, folded where a dimension ends.
pub fn line(count: usize) -> [u32; 3] {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    [count.min(GRID_WIDTH), count.div_ceil(GRID_WIDTH), 1]
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
            $( $(#[$tensor_doc])* pub $tensor: crate::kernels::kernel!(@reference 'a $access), )*
            $( $(#[$param_doc])* pub $param: $type, )*
            $( $( $(#[$host_doc])* pub $host: $host_type, )* )?
        }

        impl crate::kernels::Call for $name<'_> {
            const SIGNATURE: &'static crate::kernels::Signature = &crate::kernels::Signature {
                name: $file,
                about: concat!($($doc),*),
                bindings: &[ $( (stringify!($tensor), crate::kernels::kernel!(@access $access)) ),* ],
                params: &[ $( (stringify!($param), <$type as crate::kernels::Param>::WGSL) ),* ],
                variants: &$variants,
            };

            fn bindings(&self) -> Vec<&crate::device::Tensor> {
                vec![ $( &*self.$tensor ),* ]
            }

            fn immediates(&self) -> Vec<u32> {
                vec![ $( crate::kernels::Param::word(self.$param) ),* ]
            }
        }
    };
    (@reference $lifetime:lifetime read) => { &$lifetime crate::device::Tensor };
    (@reference $lifetime:lifetime write) => { &$lifetime mut crate::device::Tensor };
    (@access read) => { crate::kernels::Access::Read };
    (@access write) => { crate::kernels::Access::Write };
}
pub(crate) use kernel;

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
