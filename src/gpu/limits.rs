//! What an adapter, or the machine, has room for.

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

/// The machine's memory in bytes, or a container's share of it, where the system tells.
pub fn system_memory() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let total = system.total_memory();
    Some(system.cgroup_limits().map_or(total, |limits| limits.total_memory.min(total)))
}
