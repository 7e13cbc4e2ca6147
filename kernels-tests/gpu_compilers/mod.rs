//! What the real shader compilers make of every pipeline: `tools/gpu-compilers` runs these tests on drivers without cards.

mod assembly;
mod figures;
mod limits;
mod page;
mod spirv;
mod vulkan;

use std::collections::BTreeSet;
use std::path::PathBuf;

use dqo_wgpu::benches::CASES;
use dqo_wgpu::benches::pipelines::build_all;
use dqo_wgpu::device::{Device, MatmulPrecision};
use dqo_wgpu::gpu::{Gpu, Settings};

use figures::{Report, row};
use limits::Limits;

use crate::harness::adapter;

/// A variable of the environment, which `tools/gpu-compilers` sets.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; tools/gpu-compilers sets it"))
}

/// Where the compilers' reports are.
fn folder() -> PathBuf {
    variable("DQO_GPU_COMPILERS").into()
}

/// What was found, as far as a screen goes.
fn shown(lines: &[String]) -> String {
    const SCREEN: usize = 40;
    let more = lines.len().saturating_sub(SCREEN);
    let end = if more > 0 { format!("\nand {more} more") } else { String::new() };
    lines[..lines.len() - more].join("\n") + &end
}

/// The adapter with products in f32, and where it has matrix units on these.
fn devices(adapter: &wgpu::Adapter) -> Vec<Device> {
    let with_matrices = Settings::with_matrices(adapter);
    let on_matrices = [MatmulPrecision::High, MatmulPrecision::Medium].map(|precision| (with_matrices, precision));
    let on_matrices = on_matrices.into_iter().filter(|(settings, _)| settings.traits.matrices.is_some());
    let all = std::iter::once((Settings::of(adapter), MatmulPrecision::Highest)).chain(on_matrices);
    let open = |(settings, precision)| {
        Device::compiler(Gpu::open_with(adapter, settings).unwrap()).with_matmul_precision(precision).unwrap()
    };
    all.map(open).collect()
}

#[test]
#[ignore = "tools/gpu-compilers runs it, on a driver without its card"]
fn a_compiler_takes_every_pipeline() {
    let gpu = variable("DQO_GPU");
    let adapter = adapter();
    let info = adapter.get_info();
    let compiler = vulkan::Compiler::open();
    let mut rows = Vec::new();
    let mut known = BTreeSet::new();
    for device in devices(&adapter) {
        build_all(&device, CASES, |built| {
            if !known.insert(built.name()) {
                return;
            }
            let shader = spirv::shader(&built, compiler.robust);
            let said = compiler.compile(&shader).unwrap_or_else(|error| panic!("{}: {error}", built.label));
            rows.push(row(&gpu, &built, &shader, &said));
        })
        .unwrap();
    }
    let report = Report { gpu: gpu.clone(), name: info.name, driver: info.driver_info, rows };
    std::fs::write(folder().join(gpu + ".json"), serde_json::to_vec(&report).unwrap()).unwrap();
}

#[test]
#[ignore = "tools/gpu-compilers runs it, after the compilers"]
fn the_kernels_keep_their_limits() {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut reports: Vec<Report> =
        files.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect();
    reports.sort_by(|a, b| a.gpu.cmp(&b.gpu));
    let mut limits = Limits::read();
    let found = limits.check(&reports);
    assert!(found.broken.is_empty(), "limits that are broken:\n{}", shown(&found.broken));

    if std::env::var_os("DQO_WRITE_DOCS").is_some() {
        limits.write();
        page::write(&reports);
        return;
    }
    let mut old = found.better;
    old.extend(page::differences(&reports));
    let advice = "`tools/docs compilers` writes docs/gpu-compilers.md and tightens benches/gpu-compilers.toml";
    if page::is_of(&reports) {
        assert!(old.is_empty(), "not today's; {advice}:\n{}", shown(&old));
    } else if !old.is_empty() {
        println!("another Mesa than the page's; {advice}:\n{}", shown(&old));
    }
}
