//! Building pipelines without running them: the cases reach every variant, and what does not compile is said in a line.

use std::collections::BTreeSet;

use dqo_wgpu::benches::CASES;
use dqo_wgpu::benches::pipelines::build_all;
use dqo_wgpu::device::{DType, Device, Kernel, Real, Tensor, kernel};
use dqo_wgpu::gpu::{AdapterList, DeviceChoice, Gpu, Launch, Settings, Subgroups, Traits, Variant};
use dqo_wgpu::kernels::{ALL, launch_flat, only};
use wgpu::Features;

use crate::harness::skip_gpu;

/// The labels of the pipelines that the cases build on an adapter with these traits.
fn labels(adapter: &wgpu::Adapter, traits: Traits) -> BTreeSet<String> {
    let settings = Settings { traits, ..Settings::of(adapter) };
    let device = Device::compiler(Gpu::open_with(adapter, settings).unwrap());
    let mut labels = BTreeSet::new();
    build_all(&device, CASES, |built| {
        labels.insert(built.label);
    })
    .unwrap();
    labels
}

#[test]
fn the_cases_build_every_variant() {
    if skip_gpu() {
        return;
    }
    let adapters = AdapterList::find();
    let adapter = adapters.choose(&DeviceChoice::Gpu).unwrap().unwrap();
    let has_subgroups = adapter.features().contains(Features::SUBGROUP);
    let on_gpu = |subgroups| Traits { subgroups, software: false };
    let mut traits = vec![on_gpu(Subgroups::Missing)];
    if has_subgroups {
        traits.extend([on_gpu(Subgroups::Varying), Traits { subgroups: Subgroups::OfSize(8), software: true }]);
    }
    let built: BTreeSet<String> = traits.into_iter().flat_map(|traits| labels(adapter, traits)).collect();
    let variants = ALL.iter().flat_map(|signature| signature.variants.iter().map(move |variant| (signature, variant)));
    for (signature, variant) in variants.filter(|(_, variant)| has_subgroups || !variant.subgroups) {
        let label = variant.label(signature);
        assert!(built.contains(&label), "{label}: no case launches it; add one to benches/{}.rs", signature.name);
    }
}

static BROKEN: [Variant; 1] = only("@compute @workgroup_size(64)\nfn main() {\n    let x = missing;\n}", &[]);

kernel! {
    /// Nothing.
    pub struct Broken in "broken" of BROKEN {
        write y,
        ;
        count: u32,
    }
}

impl Kernel for Broken<'_> {
    fn check(&self) {}

    fn launch(&self, _: Traits) -> Launch {
        launch_flat(&BROKEN[0], self.count as usize, Default::default())
    }

    fn twin<T: Real>(&mut self) {}
}

#[test]
fn what_does_not_compile_is_said_in_a_line() {
    if skip_gpu() {
        return;
    }
    let adapters = AdapterList::find();
    let adapter = adapters.choose(&DeviceChoice::Gpu).unwrap().unwrap();
    let device = Device::compiler(Gpu::open(adapter).unwrap());
    let mut y: Tensor = device.tensor("y", &[4], DType::Real).unwrap();
    device.run(Broken { y: &mut y, count: 4 });
    let error = device.synchronize().unwrap_err().to_string();
    assert!(error.starts_with("kernel broken does not compile on this adapter: "), "{error}");
    assert!(error.contains("missing") && !error.contains('\n'), "{error}");
}
