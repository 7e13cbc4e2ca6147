//! What kernels may know of an adapter.

use wgpu::{DeviceType, Features};

/// What a kernel may know of the adapter when it chooses its variant. Chosen once, so that the same adapter runs the
/// same variants every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    pub subgroups: Subgroups,
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

/// The fewest lanes of a workgroup that is one subgroup.
const LEAST_LANES: u32 = 8;

impl Traits {
    pub(super) fn of(info: &wgpu::AdapterInfo, features: Features) -> Self {
        let size = info.subgroup_min_size;
        let subgroups = match features.contains(Features::SUBGROUP) {
            false => Subgroups::Missing,
            true if size == info.subgroup_max_size && size >= LEAST_LANES => Subgroups::OfSize(size),
            true => Subgroups::Varying,
        };
        Self { subgroups, software: info.device_type == DeviceType::Cpu }
    }
}
