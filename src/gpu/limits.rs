//! What an adapter, or the machine, has room for.

use std::sync::OnceLock;

use wgpu::{Backend, DeviceType};

/// What a tensor may need at most, and what there is in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest tensor, in bytes.
    pub tensor_bytes: u64,
    /// The device's memory in bytes, where it is known.
    pub memory_bytes: Option<u64>,
    /// Whether the driver cuts long loops short: llvmpipe ends all of an invocation's loops after 65535 rounds together.
    pub short_loops: bool,
}

impl Limits {
    pub(super) fn of_adapter(info: &wgpu::AdapterInfo, limits: &wgpu::Limits) -> Self {
        Self {
            tensor_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            memory_bytes: memory_of(info),
            short_loops: info.device_type == DeviceType::Cpu,
        }
    }
}

/// A discrete card's own memory, by its place on the bus; what Metal gives of the machine's; else the machine's.
fn memory_of(info: &wgpu::AdapterInfo) -> Option<u64> {
    match (info.device_type, info.backend) {
        (DeviceType::DiscreteGpu, _) => {
            let gpus = sysinfo::Gpus::new_with_refreshed_list().ok()?;
            let here = gpus.iter().find(|gpu| gpu.pci().to_string().eq_ignore_ascii_case(&info.device_pci_bus_id));
            here?.total_memory()
        }
        (_, Backend::Metal) => system_memory().map(working_set),
        _ => system_memory(),
    }
}

/// What Metal keeps resident of an Apple machine's memory: `MTLDevice.recommendedMaxWorkingSetSize`, past which command
/// buffers fail. wgpu hands out the device, but asking it takes `objc2-metal`. macOS's default is two thirds up to 36 GB
/// (llama.cpp's logs: 21845 MiB of 32 GiB on an M1 Max) and three quarters above; newer versions of it give up to 84 %
/// (107.5 of 128 GiB on an M5 Max), and `iogpu.wired_limit_mb` may raise it.
fn working_set(memory: u64) -> u64 {
    const LARGE: u64 = 36 << 30;
    if memory > LARGE { memory / 4 * 3 } else { memory / 3 * 2 }
}

/// The machine's memory in bytes, or a container's share of it, where the system tells. It is asked once.
pub fn system_memory() -> Option<u64> {
    static MEMORY: OnceLock<Option<u64>> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let mut system = sysinfo::System::new().ok()?;
        system.refresh_memory();
        let total = system.total_memory();
        Some(system.cgroup_limits().map_or(total, |limits| limits.total_memory.min(total)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metal_keeps_a_share_of_the_memory() {
        assert_eq!(working_set(32 << 30) >> 20, 21845);
        assert_eq!(working_set(64 << 30), 48 << 30);
    }
}
