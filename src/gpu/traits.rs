//! What kernels may know of an adapter.

use std::fmt;
use std::ops::RangeInclusive;

use wgpu::{Backend, CooperativeScalarType, DeviceType, Features, Limits};

/// What a kernel may know of the adapter when it chooses its variant. Chosen once, so that the same adapter runs the
/// same variants every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    pub subgroups: Subgroups,
    /// Units that multiply small matrices; `None` where there are none, or they are not to be used.
    pub matrices: Option<MatrixUnits>,
    /// The adapter is a CPU: barriers are dear, and loads of the same address by all lanes are cheap.
    pub software: bool,
}

/// The subgroups that an adapter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subgroups {
    /// None.
    Missing,
    /// All of one size, of at least 8: a workgroup of so many lanes is one subgroup.
    OfSize(u32),
    /// Of sizes that the driver chooses, a pipeline at a time (RDNA, Intel, Apple, Adreno), or of fewer lanes than are
    /// worth a workgroup.
    Varying,
}

/// Units whose operands a subgroup holds together: cooperative matrices of f16, of some of f32 too, that are added in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixUnits {
    pub size: MatrixSize,
    /// Whether they multiply matrices of f32 too.
    pub takes_f32: bool,
    /// The lanes of the subgroups that share matrices. Where a driver takes others, the self-test finds products wrong.
    pub subgroup: u32,
}

impl fmt::Display for MatrixUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size.values();
        write!(f, "matrix units of {size} x {size}")
    }
}

/// The rows, columns and k of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixSize {
    Eight,
    Sixteen,
}

impl MatrixSize {
    /// As a number.
    pub fn values(self) -> u32 {
        match self {
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }
}

/// The fewest lanes of a workgroup that is one subgroup.
const LEAST_LANES: u32 = 8;

/// The workgroup memory of texts for matrix units at most, in bytes: more than other kernels ask for.
pub const MAX_MATRICES_WORKGROUP_BYTES: u32 = 32 << 10;

impl Traits {
    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        let (info, features) = (adapter.get_info(), adapter.features());
        let size = info.subgroup_min_size;
        let subgroups = match features.contains(Features::SUBGROUP) {
            false => Subgroups::Missing,
            true if size == info.subgroup_max_size && size >= LEAST_LANES => Subgroups::OfSize(size),
            true => Subgroups::Varying,
        };
        Self {
            subgroups,
            matrices: MatrixUnits::all_of(adapter).first().copied(),
            software: info.device_type == DeviceType::Cpu,
        }
    }
}

impl MatrixUnits {
    /// What wgpu must enable for them.
    pub(super) const FEATURES: Features =
        Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(Features::SHADER_F16).union(Features::SUBGROUP);

    /// Those of an adapter with subgroups of each size that its driver may choose, the likeliest first.
    pub(super) fn all_of(adapter: &wgpu::Adapter) -> Vec<Self> {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let known = adapter.cooperative_matrix_properties();
        let has = |size: MatrixSize, operands| {
            known.iter().any(|of| {
                [of.m_size, of.n_size, of.k_size] == [size.values(); 3]
                    && (of.ab_type, of.cr_type) == (operands, CooperativeScalarType::F32)
            })
        };
        let sizes = [MatrixSize::Sixteen, MatrixSize::Eight];
        let size = sizes.into_iter().find(|&size| has(size, CooperativeScalarType::F16));
        let Some(size) = size.filter(|_| adapter.features().contains(Self::FEATURES)) else { return Vec::new() };
        let takes_f32 = size == MatrixSize::Eight && has(size, CooperativeScalarType::F32);
        // Apple's have 32 lanes, whatever wgpu says of Metal.
        let subgroups = match info.backend {
            Backend::Metal => 32..=32,
            _ => info.subgroup_min_size..=info.subgroup_max_size,
        };
        let with_subgroup = |subgroup| Self { size, takes_f32, subgroup };
        subgroup_sizes(subgroups).map(with_subgroup).filter(|units| units.fits(&limits)).collect()
    }

    /// Whether workgroups may be as large as the texts for matrix units have them, and an invocation has four values or more of two
    /// matrices that its subgroup shares, and whole rows at most.
    fn fits(self, limits: &Limits) -> bool {
        limits.max_compute_workgroup_storage_size >= MAX_MATRICES_WORKGROUP_BYTES
            && limits.max_compute_invocations_per_workgroup >= 4 * self.subgroup
            && (self.size.values()..=self.size.values().pow(2) / 2).contains(&self.subgroup)
    }
}

/// The powers of two in a range, the largest first.
fn subgroup_sizes(range: RangeInclusive<u32>) -> impl Iterator<Item = u32> {
    (0..u32::BITS).rev().map(|power| 1 << power).filter(move |size| range.contains(size))
}

#[cfg(test)]
mod tests {
    #[test]
    fn subgroups_are_tried_from_the_largest_on() {
        let sizes = |range| super::subgroup_sizes(range).collect::<Vec<u32>>();
        assert_eq!(sizes(32..=64), [64, 32]); // RDNA
        assert_eq!(sizes(32..=32), [32]); // NVIDIA, Apple
        assert_eq!(sizes(8..=32), [32, 16, 8]); // Intel
        assert_eq!(sizes(0..=1), [1]);
    }
}
