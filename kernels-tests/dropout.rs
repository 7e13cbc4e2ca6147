//! Dropout before adapters: drawn by the seed, the step and the row alone, in training steps alone, on every device the same.
//! (Its gradients are in gradients.rs, its kernel in cases.rs.)

use std::path::Path;

use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::model::WeightType;
use dqo_wgpu::train::OptimizerType;
use serde_json::{Value, json};

use crate::harness::gpus;
use crate::lora::{WEIGHTS, new_adapters, set};
use crate::training::{tensors, train, with};

/// Four steps of SGD with a dropout of a half, and what else is asked.
fn metrics(dir: &Path, name: &str, device: &Device, more: Value) -> Vec<Value> {
    let dtype = if device.precision() == Precision::F64 { WeightType::F64 } else { WeightType::F32 };
    let options = json!({
        "lora_dropout": 0.5, "max_steps": 4, "optimizer": OptimizerType::Sgd, "learning_rate": 1e-2, "dtype": dtype,
        "save_dtype": dtype,
    });
    train(with(with(new_adapters(&set("llama"), &dir.join(name)), options), more), device)
}

fn losses(metrics: &[Value]) -> Vec<f64> {
    metrics.iter().map(|row| row["loss"].as_f64().unwrap()).collect()
}

fn furthest(found: &[f64], expected: &[f64]) -> f64 {
    found.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs()).fold(0.0, f64::max)
}

#[test]
fn no_cut_into_micro_batches_changes_what_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::cpu(Precision::F64);
    let whole = losses(&metrics(dir.path(), "whole", &device, json!({})));
    let cut = losses(&metrics(dir.path(), "cut", &device, json!({"tokens_per_micro_batch": 24})));
    // The same sums in another order, in f64; a single value that is dropped or not is 1e-3 and more.
    assert!(furthest(&cut, &whole) < 1e-9, "{cut:?} {whole:?}");
    let again = metrics(dir.path(), "again", &device, json!({"gradient_checkpointing": true}));
    assert_eq!(losses(&again), whole, "what is computed again is left out again");
    let without = losses(&metrics(dir.path(), "without", &device, json!({"lora_dropout": 0.0})));
    assert!(furthest(&without, &whole) > 1e-6, "something was left out");
    let other = losses(&metrics(dir.path(), "other", &device, json!({"seed": 43})));
    assert!(furthest(&other, &whole) > 1e-6);
}

#[test]
fn every_device_leaves_out_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let expected = losses(&metrics(dir.path(), "f64", &Device::cpu(Precision::F64), json!({})));
    let others = gpus().iter().cloned().chain([Device::cpu(Precision::F32)]);
    for (number, device) in others.enumerate() {
        let found = losses(&metrics(dir.path(), &format!("out-{number}"), &device, json!({})));
        // Sums in f32 over a few hundred terms; a value that one device drops and another keeps is 1e-3 and more.
        assert!(furthest(&found, &expected) < 1e-4, "{}: {found:?} {expected:?}", device.description());
    }
}

#[test]
fn adapters_go_on_with_the_dropout_that_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::cpu(Precision::F64);
    metrics(dir.path(), "first", &device, json!({}));
    let policy = dir.path().join("first/final/policy");
    let config = std::fs::read_to_string(policy.join("adapter_config.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["lora_dropout"], 0.5);
    let going_on = |name: &str| {
        let more = json!({"adapter": policy, "lora_r": null, "lora_alpha": null, "lora_dropout": null, "max_steps": 2});
        metrics(dir.path(), name, &device, more);
        tensors(&dir.path().join(name).join("final/policy").join(WEIGHTS))
    };
    let with = going_on("with");
    std::fs::write(policy.join("adapter_config.json"), config.replace("0.5", "0.0")).unwrap();
    assert_ne!(with, going_on("without"));
}
