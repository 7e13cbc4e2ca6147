//! The machine's adapters: which there are, which one a choice means, and what one must offer.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use wgpu::{AdapterInfo, Backends, DeviceType, Features, Limits};

use super::choice::DeviceChoice;
use super::traits::{MatrixUnits, Traits};

/// Which of several equal adapters this process takes where its choice means any of them.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// Has this process take the adapter of this number, of several equal ones, where the user leaves the choice to it: processes that
/// share a machine each have their own then.
pub fn take_turn(number: usize) {
    TURN.store(number, Ordering::Relaxed);
}

/// The adapters of every back end, in the order that `--device INDEX` counts.
pub struct AdapterList(Vec<wgpu::Adapter>);

impl AdapterList {
    /// Asks every native back end for its adapters. Finding none is not an error here.
    pub fn find() -> Self {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: Backends::VULKAN | Backends::METAL | Backends::DX12,
            // Past this share of what the driver says it can give, an allocation fails with an error of its own
            // instead of taking the desktop or the device down.
            memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
                for_resource_creation: Some(97),
                for_device_loss: None,
            },
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        Self(pollster::block_on(instance.enumerate_adapters(Backends::all())))
    }

    /// Every adapter with its index.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &wgpu::Adapter)> {
        self.0.iter().enumerate()
    }

    /// The adapter that `choice` means; `None` where it means the CPU device.
    ///
    /// # Errors
    /// Where the choice needs an adapter that is not there; says which there are.
    pub fn choose(&self, choice: &DeviceChoice) -> Result<Option<&wgpu::Adapter>> {
        match choice {
            DeviceChoice::Cpu => Ok(None),
            DeviceChoice::Auto => Ok(self.fastest(|info| info.device_type != DeviceType::Cpu)),
            DeviceChoice::Gpu => match self.fastest(|_| true) {
                Some(adapter) => Ok(Some(adapter)),
                None => bail!(
                    "no GPU adapter found; install a Vulkan driver (Debian and Ubuntu: mesa-vulkan-drivers) or use --device cpu"
                ),
            },
            DeviceChoice::Index(index) => {
                let adapter = self.0.get(*index).with_context(|| {
                    format!("--device {index}: there is no such adapter; there are {}", self.names())
                })?;
                Ok(Some(adapter))
            }
            DeviceChoice::Name(name) => {
                let wanted = name.to_lowercase();
                let adapter = self.0.iter().find(|adapter| adapter.get_info().name.to_lowercase().contains(&wanted));
                let adapter = adapter.with_context(|| {
                    format!("--device {name}: no adapter's name contains it; there are {}", self.names())
                })?;
                Ok(Some(adapter))
            }
        }
    }

    fn fastest(&self, allowed: impl Fn(&wgpu::AdapterInfo) -> bool) -> Option<&wgpu::Adapter> {
        let rank = |adapter: &&wgpu::Adapter| match adapter.get_info().device_type {
            DeviceType::DiscreteGpu => 0,
            DeviceType::IntegratedGpu => 1,
            DeviceType::VirtualGpu => 2,
            DeviceType::Other => 3,
            DeviceType::Cpu => 4,
        };
        let first = self.0.iter().filter(|adapter| allowed(&adapter.get_info())).min_by_key(rank)?;
        // Its equals, each once: what other back ends and drivers have of the same card is no adapter more.
        let of_first = first.get_info();
        let mut equals: Vec<&wgpu::Adapter> = Vec::new();
        for adapter in &self.0 {
            let info = adapter.get_info();
            let is_equal = info.backend == of_first.backend && rank(&adapter) == rank(&first) && allowed(&info);
            let is_known = |known: &&wgpu::Adapter| {
                let known = known.get_info().device_pci_bus_id;
                !known.is_empty() && known == info.device_pci_bus_id
            };
            if is_equal && !equals.iter().any(is_known) {
                equals.push(adapter);
            }
        }
        equals.get(TURN.load(Ordering::Relaxed) % equals.len().max(1)).copied()
    }

    fn names(&self) -> String {
        if self.0.is_empty() {
            return "none".to_owned();
        }
        let name = |(index, adapter): (usize, &wgpu::Adapter)| format!("{index} ({})", adapter.get_info().name);
        self.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// What an adapter is and offers, as `devices` lists it and measurements record it.
pub(super) fn describe(
    info: &AdapterInfo,
    features: Features,
    limits: &Limits,
    matrices: Option<MatrixUnits>,
) -> Map<String, Value> {
    let described = json!({
        "name": info.name,
        "backend": format!("{:?}", info.backend),
        "type": format!("{:?}", info.device_type),
        "driver": format!("{} {}", info.driver, info.driver_info),
        "max_binding_bytes": limits.max_storage_buffer_binding_size,
        "max_buffer_bytes": limits.max_buffer_size,
        "workgroup_memory_bytes": limits.max_compute_workgroup_storage_size,
        "workgroup_invocations": limits.max_compute_invocations_per_workgroup,
        "subgroups": features.contains(Features::SUBGROUP),
        "subgroup_sizes": [info.subgroup_min_size, info.subgroup_max_size],
        "matrices": matrices.map(|units| units.size.values()),
        "timestamps": features.contains(Features::TIMESTAMP_QUERY),
    });
    described.as_object().cloned().unwrap_or_default()
}

/// What an adapter that is not open is and offers.
pub fn describe_adapter(adapter: &wgpu::Adapter) -> Map<String, Value> {
    describe(&adapter.get_info(), adapter.features(), &adapter.limits(), Traits::of(adapter).matrices)
}

/// The invocations of the largest workgroup that any kernel asks for.
pub const MAX_INVOCATIONS: u32 = 256;
/// The workgroup memory that any kernel asks for at most, in bytes.
pub const MAX_WORKGROUP_BYTES: u32 = 16 << 10;
/// The largest parameter block of any kernel, in bytes.
pub const MAX_IMMEDIATE_BYTES: u32 = 128;
/// The most tensors that any kernel binds.
pub const MAX_BINDINGS: u32 = 8;

/// Checks that an adapter can run every kernel.
///
/// # Errors
/// Names the adapter, what it lacks and what to do.
pub fn check_requirements(name: &str, features: Features, limits: &Limits) -> Result<()> {
    let mut missing = Vec::new();
    if !features.contains(Features::IMMEDIATES) {
        missing.push("immediate data (push constants)".to_owned());
    }
    let needed = [
        ("bytes of immediate data", limits.max_immediate_size, MAX_IMMEDIATE_BYTES),
        ("invocations a workgroup", limits.max_compute_invocations_per_workgroup, MAX_INVOCATIONS),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, MAX_WORKGROUP_BYTES),
        ("storage buffers a kernel", limits.max_storage_buffers_per_shader_stage, MAX_BINDINGS),
        ("workgroups a dimension", limits.max_compute_workgroups_per_dimension, 65535),
    ];
    for (what, has, needs) in needed {
        if has < needs {
            missing.push(format!("{needs} {what} (it has {has})"));
        }
    }
    if !missing.is_empty() {
        bail!("the adapter {name} is too small: it lacks {}; use another --device or --device cpu", missing.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_too_small_is_refused_by_what_it_lacks() {
        let enough =
            Limits { max_immediate_size: 128, max_compute_invocations_per_workgroup: 256, ..Limits::defaults() };
        assert!(check_requirements("A", Features::IMMEDIATES, &enough).is_ok());
        let small = Limits { max_compute_workgroup_storage_size: 8192, ..enough };
        let error = check_requirements("A", Features::empty(), &small).unwrap_err().to_string();
        assert_eq!(
            error,
            "the adapter A is too small: it lacks immediate data (push constants), 16384 bytes of workgroup memory \
             (it has 8192); use another --device or --device cpu"
        );
    }
}
