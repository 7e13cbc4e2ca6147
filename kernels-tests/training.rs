//! Training against PyTorch: whole steps of every weight, and twenty steps of AdamW.
//! The goldens are made by tools/goldens/make.py.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::model::WeightType;
use dqo_wgpu::train::{OptimizerType, Outcome, Run, SchedulerType, TrainSettings, Watch};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::harness::gpus;
use crate::model::{FAMILIES, golden, json_lines};

const WEIGHTS: &str = "model.safetensors";

/// Every tensor of a safetensors file, widened.
pub fn tensors(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |name: &str| {
        let view = file.tensor(name).unwrap();
        match view.dtype() {
            Dtype::F32 => bytemuck::pod_collect_to_vec::<u8, f32>(view.data()).into_iter().map(f64::from).collect(),
            Dtype::F64 => bytemuck::pod_collect_to_vec(view.data()),
            other => panic!("{name} is {other:?}"),
        }
    };
    file.names().into_iter().map(|name| (name.to_owned(), values(name))).collect()
}

/// A configuration with the networks of a golden set, and a copy of its rows in `output`: runs write beside their rows.
pub fn config(set: &Path, rows: &str, output: &Path) -> Value {
    let data = output.join(rows);
    if set.join(rows).is_file() {
        std::fs::create_dir_all(output).unwrap();
        std::fs::copy(set.join(rows), &data).unwrap();
    }
    let path = |part: &str| set.join(part).to_str().unwrap().to_owned();
    json!({
        "method": "dqo", "model": path("policy"), "value_model": path("value"), "data": data,
        "output_dir": output.to_owned(), "batch_size": 4, "save_steps": 0,
    })
}

/// A configuration with more of it; what is null is left out.
pub fn with(mut config: Value, more: Value) -> Value {
    let options = config.as_object_mut().unwrap();
    options.extend(more.as_object().unwrap().clone());
    options.retain(|_, value| !value.is_null());
    config
}

/// The settings that a file with these options makes.
pub fn settings(config: &Value) -> TrainSettings {
    TrainSettings::of_table(toml::Table::try_from(config).unwrap()).unwrap()
}

/// A run on a device.
pub fn open(config: &Value, device: &Device) -> Run {
    Run::open_on(settings(config), |_| Ok(device.clone())).unwrap()
}

/// Trains on a device to the end; the rows of its metrics.
pub fn train(config: Value, device: &Device) -> Vec<Value> {
    let output = Path::new(config["output_dir"].as_str().unwrap());
    let run = open(&config, device);
    let outcome = run.train(false, Watch::silent(&AtomicBool::new(false))).unwrap();
    assert_eq!(outcome, Outcome::Finished(output.join("final")));
    json_lines(&output.join("metrics.jsonl"))
}

/// The devices, and the type that weights have there.
pub fn devices() -> Vec<(Device, WeightType)> {
    let cpus = [(Device::cpu(Precision::F64), WeightType::F64), (Device::cpu(Precision::F32), WeightType::F32)];
    cpus.into_iter().chain(gpus().iter().map(|gpu| (gpu.clone(), WeightType::F32))).collect()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// Holds the change of every weight in a step of `--optimizer sgd --learning-rate 1` against its golden gradient.
pub fn compare_step((before, after): (&Path, &Path), part: &str, gradients: &BTreeMap<String, Vec<f64>>, label: &str) {
    let (before, after) = (tensors(before), tensors(after));
    let gradients: BTreeMap<_, _> =
        gradients.iter().filter_map(|(name, g)| Some((name.strip_prefix(part)?, g))).collect();
    assert_eq!(gradients.keys().copied().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{label}");
    let whole = norm(gradients.values().flat_map(|gradient| gradient.iter().copied()));
    for (name, gradient) in gradients {
        let change = before[name].iter().zip(&after[name]).map(|(before, after)| before - after);
        let difference = norm(change.zip(gradient).map(|(change, gradient)| change - gradient));
        // A gradient that is 0 but for rounding (a bias on the keys changes no softmax) is held against the whole.
        let size = norm(gradient.iter().copied()).max(1e-4 * whole);
        assert!(difference <= 1e-4 * size, "{label}: {part}{name} is off by {:.1e}", difference / size);
    }
}

/// One step of a golden case on every device.
fn check_case(set: &Path, case: &Value) {
    let name = case["case"].as_str().unwrap();
    let gradients = tensors(&set.join(format!("{name}.safetensors")));
    let rows = if name == "plain_rows" { "plain_rows.jsonl" } else { "rows.jsonl" };
    for (device, dtype) in devices() {
        let label = format!("{} {name} on {}", set.display(), device.description());
        let output = tempfile::tempdir().unwrap();
        let base = with(
            config(set, rows, output.path()),
            json!({
                "ref_model": set.join("reference").to_str().unwrap().to_owned(),
                "optimizer": OptimizerType::Sgd, "learning_rate": 1.0, "max_grad_norm": 0.0, "max_steps": 1,
                "dtype": dtype,
            }),
        );
        let metrics = train(with(base, case["settings"].clone()), &device);
        for loss in ["policy_loss", "value_loss"] {
            let (found, expected) = (metrics[0][loss].as_f64().unwrap(), case[loss].as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-4 * expected, "{label}: {loss} is {found}, not {expected}");
        }
        for part in ["policy", "value"] {
            let after = output.path().join("final").join(part);
            let files = (set.join(part).join(WEIGHTS), after.join(WEIGHTS));
            compare_step((&files.0, &files.1), &format!("{part}."), &gradients, &label);
        }
    }
}

#[test]
fn a_step_of_dqo_is_autograds_in_every_family() {
    for family in FAMILIES {
        let set = golden("dqo").join(family);
        json_lines(&set.join("cases.jsonl")).iter().for_each(|case| check_case(&set, case));
    }
}

#[test]
fn a_step_of_dqo_is_autograds_under_every_switch() {
    let set = golden("dqo/switches");
    json_lines(&set.join("cases.jsonl")).iter().for_each(|case| check_case(&set, case));
}

#[test]
fn a_step_of_sft_is_autograds() {
    let set = golden("sft");
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(set.join("case.json")).unwrap()).unwrap();
    for (device, dtype) in devices() {
        let output = tempfile::tempdir().unwrap();
        let config = with(
            config(&set, "rows.jsonl", output.path()),
            json!({
                "method": "sft", "value_model": null, "optimizer": OptimizerType::Sgd, "learning_rate": 1.0,
                "max_grad_norm": 0.0, "max_steps": 1, "dtype": dtype,
            }),
        );
        let metrics = train(config, &device);
        let (found, expected) = (metrics[0]["loss"].as_f64().unwrap(), expected["loss"].as_f64().unwrap());
        assert!((found - expected).abs() <= 1e-4 * expected, "loss {found}, not {expected}");
        assert!(!output.path().join("final/value").exists());
        let gradients = tensors(&set.join("gradients.safetensors"));
        let files = (set.join("policy").join(WEIGHTS), output.path().join("final/policy").join(WEIGHTS));
        compare_step((&files.0, &files.1), "policy.", &gradients, &device.description());
    }
}

/// The settings of the golden AdamW run.
fn adamw(output: &Path) -> Value {
    with(
        config(&golden("adamw"), "rows.jsonl", output),
        json!({
            "learning_rate": 2e-3, "value_learning_rate": 5e-3, "weight_decay": 0.1, "max_grad_norm": 0.5,
            "lr_scheduler_type": SchedulerType::Cosine, "warmup_ratio": 0.2, "max_steps": 20,
        }),
    )
}

#[test]
fn twenty_steps_of_adamw_are_torchs() {
    let steps: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(golden("adamw/steps.json")).unwrap()).unwrap();
    for (device, dtype) in devices() {
        let output = tempfile::tempdir().unwrap();
        let metrics = train(with(adamw(output.path()), json!({"dtype": dtype})), &device);
        assert_eq!(metrics.len(), steps.len());
        for (row, expected) in metrics.iter().zip(&steps) {
            for (name, expected) in expected.as_object().unwrap() {
                let (found, expected) = (row[name].as_f64().unwrap(), expected.as_f64().unwrap());
                // The norms of gradients amplify what the weights have drifted by; the losses are the measure.
                let tolerance = if name.ends_with("norm") { 1e-3 } else { 1e-4 };
                let off = (found - expected).abs() / expected.abs().max(1e-12);
                assert!(
                    off <= tolerance,
                    "{}: step {}: {name} is {found}, not {expected}",
                    device.description(),
                    row["step"]
                );
            }
        }
    }
}

/// The weights that a run ends with, policy's and value's.
pub fn weights(output: &Path) -> Vec<(String, Vec<f64>)> {
    let part = |part: &str| tensors(&output.join("final").join(part).join("model.safetensors"));
    part("policy").into_iter().chain(part("value")).collect()
}

/// Holds two runs' weights against each other, tensor by tensor.
#[track_caller]
pub fn same_weights(found: &[(String, Vec<f64>)], expected: &[(String, Vec<f64>)], tolerance: f64, label: &str) {
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let difference = norm(found.iter().zip(expected).map(|(found, expected)| found - expected));
        let off = difference / norm(expected.iter().copied());
        assert!(off <= tolerance, "{label}: {name} differs by {off:.1e}");
    }
}

#[test]
fn neither_micro_batches_nor_the_order_of_rows_matter() {
    let set = golden("dqo/qwen3");
    let rows = std::fs::read_to_string(set.join("rows.jsonl")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let reversed = dir.path().join("reversed.jsonl");
    std::fs::write(&reversed, rows.lines().rev().collect::<Vec<_>>().join("\n")).unwrap();
    for (device, dtype) in devices() {
        let run = |label: &str, budget: usize, rows: Option<&Path>| {
            let output = dir.path().join(format!(
                "{label}-{}-{dtype:?}-{:?}",
                device.description(),
                device.as_gpu().map(|gpu| gpu.traits())
            ));
            let base = config(&set, "rows.jsonl", &output);
            let config = with(
                base.clone(),
                json!({
                    "tokens_per_micro_batch": budget,
                    "data": rows.map_or(base["data"].clone(), |rows| json!(rows)), "dtype": dtype,
                    "optimizer": OptimizerType::Sgd, "learning_rate": 1e-2, "max_steps": 2,
                }),
            );
            train(config, &device);
            weights(&output)
        };
        let together = run("together", 4096, None);
        same_weights(&run("alone", 1, None), &together, 1e-6, "each row alone");
        same_weights(&run("some", 16, None), &together, 1e-6, "some rows together");
        same_weights(&run("reversed", 4096, Some(&reversed)), &together, 1e-6, "rows reversed");
    }
}

#[test]
fn the_gpu_trains_as_the_f64_cpu_does() {
    let losses = |device: &Device, dtype: WeightType| -> Vec<f64> {
        let output = tempfile::tempdir().unwrap();
        let base = config(&golden("dqo/llama3"), "rows.jsonl", output.path());
        let config = with(base, json!({"dtype": dtype, "learning_rate": 1e-3, "max_steps": 20, "batch_size": 3}));
        train(config, device).iter().map(|row| row["loss"].as_f64().unwrap()).collect()
    };
    let expected = losses(&Device::cpu(Precision::F64), WeightType::F64);
    assert_eq!(expected.len(), 20);
    for gpu in gpus() {
        for (step, (found, expected)) in losses(gpu, WeightType::F32).iter().zip(&expected).enumerate() {
            let off = (found - expected).abs() / expected.abs();
            assert!(off <= 1e-4, "{}: step {}: {found}, not {expected}", gpu.description(), step + 1);
        }
    }
}

#[test]
fn bf16_weights_keep_f32_masters() {
    // With a learning rate below a bf16 step of the weights, training must still move the masters.
    let run = |device: &Device, dtype| {
        let output = tempfile::tempdir().unwrap();
        let base = config(&golden("dqo/qwen2"), "rows.jsonl", output.path());
        let config = with(base, json!({"dtype": dtype, "learning_rate": 1e-5, "max_steps": 20, "save_steps": 20}));
        let metrics = train(config, device);
        let losses: Vec<f64> = metrics.iter().map(|row| row["loss"].as_f64().unwrap()).collect();
        (losses, tensors(&output.path().join("checkpoint-000020/optimizer.safetensors")))
    };
    let (expected, _) = run(&Device::cpu(Precision::F32), WeightType::Bf16);
    for gpu in gpus() {
        let (losses, state) = run(gpu, WeightType::Bf16);
        for (found, expected) in losses.iter().zip(&expected) {
            // A master that two devices round differently may fall on two sides of a bf16 tie: a step of 2^-9 in one
            // weight of thousands.
            assert!((found - expected).abs() <= 1e-3 * expected.abs(), "{found}, not {expected}");
        }
        let start = tensors(&golden("dqo/qwen2/policy/model.safetensors"));
        let name = "model.layers.0.mlp.up_proj.weight";
        let moved =
            state[&format!("policy/master/{name}")].iter().zip(&start[name]).filter(|(now, before)| now != before);
        assert!(moved.count() > start[name].len() / 2);
    }
}
