//! What kernels may know of an adapter.

use wgpu::{DeviceType, Features};

/// What a kernel may know of the adapter when it chooses its variant. Chosen once, so that the same adapter runs the
/// same variants every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// The size of every subgroup, where subgroups exist and all have one size of at least 8.
    pub subgroup_size: Option<u32>,
    /// The adapter is a CPU: barriers are dear, and loads of the same address by all lanes are cheap.
    pub software: bool,
}

impl Traits {
    pub(super) fn of(info: &wgpu::AdapterInfo, features: Features) -> Self {
        let one_size = info.subgroup_min_size == info.subgroup_max_size && info.subgroup_min_size >= 8;
        Self {
            subgroup_size: (features.contains(Features::SUBGROUP) && one_size).then_some(info.subgroup_min_size),
            software: info.device_type == DeviceType::Cpu,
        }
    }
}
