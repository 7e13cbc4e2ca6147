//! Weights in several files, and weights larger than a device can bind.

use std::collections::BTreeMap;
use std::path::Path;

use dqo_wgpu::benches::case::MATRIX_TYPES;
use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::gpu::Gpu;
use dqo_wgpu::model::{Parameter, Storage};
use safetensors::SafeTensors;
use serde_json::json;

use crate::command::copy_of;
use crate::harness::{adapter, checked, skip_gpu};
use crate::model::{golden, largest_difference, score};
use crate::training::{config, same_weights, train, weights, with};

/// Of the models of 32 hidden units.
const BYTES: u64 = 3600;

/// Splits a model's weights into two files with an index.
fn split(model: &Path) {
    let whole = model.join("model.safetensors");
    let bytes = std::fs::read(&whole).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut weight_map = BTreeMap::new();
    for part in 0..2 {
        let name = format!("model-{:05}-of-00002.safetensors", part + 1);
        let tensors: Vec<_> =
            file.tensors().into_iter().enumerate().filter(|(index, _)| index % 2 == part).map(|(_, t)| t).collect();
        weight_map.extend(tensors.iter().map(|(tensor, _)| (tensor.clone(), name.clone())));
        safetensors::serialize_to_file(tensors, None, &model.join(&name)).unwrap();
    }
    std::fs::write(model.join("model.safetensors.index.json"), json!({ "weight_map": weight_map }).to_string())
        .unwrap();
    std::fs::remove_file(whole).unwrap();
}

#[test]
fn a_model_in_several_files_is_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let model = copy_of("models/llama", &dir.path().join("model"));
    let device = Device::cpu(Precision::F32);
    let rows = model.join("rows.jsonl");
    let whole = score(&model, &rows, &device, DType::Real, 4096);
    split(&model);
    assert_eq!(score(&model, &rows, &device, DType::Real, 4096), whole);
}

#[test]
fn a_shard_of_a_matrix_in_blocks_begins_with_a_block() {
    let device = Device::cpu(Precision::F32).limited_to(16384);
    for dtype in MATRIX_TYPES.into_iter().filter(|dtype| dtype.is_in_blocks()) {
        for cols in [36, 256] {
            let storage = Storage::frozen(dtype);
            let matrix = Parameter::matrix(&device, "policy", "weight", [1000, cols], storage).unwrap();
            assert!(matrix.shards().len() > 1);
            for shard in matrix.shards() {
                assert_eq!(shard.first_row * cols % dtype.block_len(), 0, "{dtype:?}, {cols} columns");
            }
        }
    }
}

/// Devices that hold so little in a tensor, `bytes` in f32, that embedding, head and the widest layers are cut into row
/// shards.
pub fn small_devices(bytes: u64) -> Vec<Device> {
    let mut devices =
        vec![Device::cpu(Precision::F64).limited_to(2 * bytes), Device::cpu(Precision::F32).limited_to(bytes)];
    if !skip_gpu() {
        let adapter = adapter();
        devices.push(Device::gpu(Gpu::open_with(&adapter, checked(&adapter)).unwrap()).limited_to(bytes));
    }
    devices
}

/// Responses so short that the activations are no larger than the shards.
fn short_rows(path: &Path) {
    let rows = [
        json!({"prompt_ids": [3, 70, 9], "completion_ids": [60, 5, 100, 2], "reward": 1.0}),
        json!({"prompt_ids": [99], "completion_ids": [0, 52, 51], "reward": 0.0}),
    ];
    std::fs::write(path, rows.map(|row| row.to_string()).join("\n")).unwrap();
}

#[test]
fn weights_larger_than_a_binding_are_cut_and_compute_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    short_rows(&rows);
    for family in ["llama", "qwen2", "gemma"] {
        let model = golden("models").join(family);
        let whole = score(&model, &rows, &Device::cpu(Precision::F64), DType::Real, 1);
        for device in small_devices(BYTES) {
            let difference = largest_difference(&score(&model, &rows, &device, DType::Real, 1), &whole);
            assert!(difference <= 2e-5, "{family} on {}: {difference:.1e}", device.description());
        }
    }
}

#[test]
fn cut_weights_are_trained_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    short_rows(&rows);
    let run = |label: &str, device: &Device| {
        let output = dir.path().join(label);
        let model = golden("models/llama").display().to_string();
        let base = with(config(&output, "", &output), json!({"method": "dqo", "model": model, "value_model": null}));
        let config = with(
            base,
            json!({"data": rows.clone(), "learning_rate": 1e-3, "tokens_per_micro_batch": 1, "max_steps": 3, "dtype": match device.precision() {
                Precision::F32 => dqo_wgpu::model::WeightType::F32,
                Precision::F64 => dqo_wgpu::model::WeightType::F64,
            }}),
        );
        train(config, device);
        weights(&output)
    };
    let whole = run("whole", &Device::cpu(Precision::F64));
    for (index, device) in small_devices(BYTES).iter().enumerate() {
        // AdamW divides by the root of v: a gradient that is nearly 0 in one weight may turn its step around, by at most
        // three learning rates of 1e-3 beside weights of 0.1 and more.
        let tolerance = if device.precision() == Precision::F64 { 1e-6 } else { 1e-3 };
        same_weights(&run(&format!("cut-{index}"), device), &whole, tolerance, &device.description());
    }
}
