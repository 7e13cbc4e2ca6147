//! What the tests share: the devices under test and the comparison with the f64 twin.

use std::sync::OnceLock;

use dqo_wgpu::benches::case::{Case, relative_error};
use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::gpu::{AdapterList, DeviceChoice, Gpu, Settings, Subgroups, Traits};

/// Whether the user asked to leave the GPU's tests out. Without an adapter they fail.
pub fn skip_gpu() -> bool {
    let skip = std::env::var_os("DQO_SKIP_GPU").is_some_and(|value| value == "1");
    if skip {
        eprintln!("DQO_SKIP_GPU=1: a GPU test was left out");
    }
    skip
}

/// The adapter that `DQO_TEST_DEVICE` names by number or name, else the machine's fastest.
pub fn adapter() -> wgpu::Adapter {
    let choice = std::env::var("DQO_TEST_DEVICE").map_or(DeviceChoice::Gpu, |named| {
        let Ok(choice) = named.parse();
        choice
    });
    AdapterList::find().choose(&choice).unwrap().unwrap().clone()
}

/// The machine's adapter as it is, and with the traits that make every kernel take its other variants: over subgroups of
/// any size, and without subgroups.
pub fn gpus() -> &'static [Device] {
    static GPUS: OnceLock<Vec<Device>> = OnceLock::new();
    GPUS.get_or_init(open_gpus)
}

/// The devices of [`gpus`], opened once more.
pub fn open_gpus() -> Vec<Device> {
    if skip_gpu() {
        return Vec::new();
    }
    let adapter = adapter();
    let natural = checked(&adapter);
    let varying = match natural.traits.subgroups {
        Subgroups::OfSize(_) => Some(Subgroups::Varying),
        Subgroups::Varying | Subgroups::Missing => None,
    };
    let others = varying.into_iter().chain([Subgroups::Missing]);
    let others = others.map(|subgroups| Traits { subgroups, matrices: None, software: !natural.traits.software });
    let settings = std::iter::once(natural.traits).chain(others).map(|traits| Settings { traits, ..natural });
    settings.map(|settings| Device::gpu(Gpu::open_with(&adapter, settings).unwrap())).collect()
}

/// An adapter's settings with all checks of the shaders on.
pub fn checked(adapter: &wgpu::Adapter) -> Settings {
    Settings { checks: true, ..Settings::of(adapter) }
}

/// Runs a case on every GPU and on the f32 twin, and holds each output against the f64 twin.
#[track_caller]
pub fn check(case: &Case) {
    let reference = case.outputs(&Device::cpu(Precision::F64)).unwrap();
    let cpu = Device::cpu(Precision::F32);
    for device in std::iter::once(&cpu).chain(gpus()) {
        for (output, reference) in case.outputs(device).unwrap().iter().zip(&reference) {
            let error = relative_error(&output.values, &reference.values);
            assert!(
                error <= case.tolerance,
                "{} {}: {} on {} ({:?}) is off by {error:.2e}, more than {:.0e}",
                case.kernel,
                case.shape,
                output.name,
                device.description(),
                device.as_gpu().map(Gpu::traits),
                case.tolerance,
            );
        }
    }
}
