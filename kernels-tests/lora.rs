//! Adapters against PEFT: what they compute and one step of training; one base, resuming, plans.
//! The goldens are made by tools/goldens/lora.py.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;

use dqo_wgpu::data::{Example, Examples, RowFile, Tokenizer};
use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::model::{Adapter, BaseType, Checkpoint, HeadType, ModelConfig, Storage, WeightOptions, WeightType};
use dqo_wgpu::objective::ValueNetwork;
use dqo_wgpu::train::{OptimizerType, Run, Scorer, Scoring, Source, TargetModule, TokenLogps, ValueScorer, Watch};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::command::{dqo, stderr};
use crate::harness::gpus;
use crate::model::{floats, golden, json_lines, largest_difference};
use crate::shards::small_devices;
use crate::training::{compare_step, config, devices, open, settings, tensors, train, with};

pub const SETS: [&str; 5] = ["llama", "llama3", "qwen2", "gemma", "gemma3"];
/// Sets whose networks compute with a base in blocks, and the head's type, where it is not as the base says.
const SETS_IN_BLOCKS: [(&str, BaseType, Option<HeadType>); 4] = [
    ("llama_q4", BaseType::Q4, None),
    ("qwen2_q8", BaseType::Q8, None),
    ("gemma_q4_q8", BaseType::Q4, Some(HeadType::Q8)),
    ("llama_q8_q8", BaseType::Q8, Some(HeadType::Q8)),
];

/// All sets, and how their matrices are stored.
fn sets() -> impl Iterator<Item = (&'static str, WeightOptions)> {
    let as_given = SETS.map(|name| (name, WeightOptions::default()));
    let in_blocks = SETS_IN_BLOCKS.map(|(name, base, base_head)| {
        (name, WeightOptions { base: Some(base), base_head, ..WeightOptions::default() })
    });
    as_given.into_iter().chain(in_blocks)
}
pub const WEIGHTS: &str = "adapter_model.safetensors";

pub fn set(name: &str) -> std::path::PathBuf {
    golden("lora").join(name)
}

fn examples(model: &Path, rows: &Path) -> (ModelConfig, Vec<Example>) {
    let config = ModelConfig::read(model).unwrap();
    let tokenizer = Tokenizer::read(model, &config.eos_token_ids).unwrap();
    let file = RowFile::read(rows).unwrap();
    let examples = Examples::build(&file, &tokenizer, config.limits(), usize::MAX).unwrap().examples;
    (config, examples)
}

/// Log-probs of rows under a model with adapters, or without.
pub fn logps(model: &Path, adapter: Option<&Path>, rows: &Path, device: &Device, storage: Storage) -> Vec<TokenLogps> {
    let (config, examples) = examples(model, rows);
    let (checkpoint, adapter) = (Checkpoint::open(model).unwrap(), adapter.map(|dir| Adapter::open(dir).unwrap()));
    let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: adapter.as_ref(), base: None };
    let scoring = Scoring { storage, tokens_per_micro_batch: 16 };
    let mut scorer = Scorer::new(device, source, "policy", scoring, &examples).unwrap();
    let mut all = Vec::new();
    let keep = |_, scored| {
        all.extend(scored);
        Ok(())
    };
    scorer.score(&examples, keep).unwrap();
    all
}

/// Values of rows under a value network with adapters, or without.
pub fn values(model: &Path, adapter: Option<&Path>, rows: &Path, device: &Device, storage: Storage) -> Vec<Vec<f64>> {
    let (config, examples) = examples(model, rows);
    let (checkpoint, adapter) = (Checkpoint::open(model).unwrap(), adapter.map(|dir| Adapter::open(dir).unwrap()));
    let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: adapter.as_ref(), base: None };
    let scoring = Scoring { storage, tokens_per_micro_batch: 16 };
    ValueScorer::new(device, source, scoring, &examples).unwrap().score(&examples, |_| ()).unwrap()
}

pub fn largest(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected.iter().map(Vec::len).collect::<Vec<_>>());
    found.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

pub fn expected(set: &Path) -> (Vec<TokenLogps>, Vec<Vec<f64>>) {
    let rows = json_lines(&set.join("expected.jsonl"));
    let logps = |row: &Value| TokenLogps { logps: floats(&row["logps"]), entropies: floats(&row["entropies"]) };
    (rows.iter().map(logps).collect(), rows.iter().map(|row| floats(&row["values"])).collect())
}

#[test]
fn log_probs_and_values_with_adapters_are_pefts() {
    for (name, weights) in sets() {
        let (set, storage) = (set(name), weights.storage());
        let (model, rows) = (set.join("model"), set.join("rows.jsonl"));
        let (expected_logps, expected_values) = expected(&set);
        for (device, _) in devices() {
            let label = format!("{name} on {}", device.description());
            let found = logps(&model, Some(&set.join("policy")), &rows, &device, storage);
            let difference = largest_difference(&found, &expected_logps);
            assert!(difference <= 2e-5, "{label}: log-probs differ by {difference:.1e}");
            let without = largest_difference(&logps(&model, None, &rows, &device, storage), &expected_logps);
            assert!(without > 1e-2, "{label}: the adapters change nothing");
            let found = values(&model, Some(&set.join("value")), &rows, &device, storage);
            let difference = largest(&found, &expected_values);
            assert!(difference <= 2e-5, "{label}: values differ by {difference:.1e}");
        }
    }
}

#[test]
fn adapters_lie_over_weights_that_are_cut_and_over_bf16() {
    let set = set("qwen2");
    let (model, policy, dir) = (set.join("model"), set.join("policy"), tempfile::tempdir().unwrap());
    let rows = dir.path().join("rows.jsonl");
    std::fs::write(&rows, json!({"prompt_ids": [3, 7], "completion_ids": [20, 5, 1, 2]}).to_string()).unwrap();
    let cpu = Device::cpu(Precision::F64);
    let (real, bf16) = (Storage::frozen(DType::Real), Storage::frozen(DType::Bf16));
    let whole = logps(&model, Some(&policy), &rows, &cpu, real);
    for device in small_devices(1100) {
        let difference = largest_difference(&logps(&model, Some(&policy), &rows, &device, real), &whole);
        assert!(difference <= 2e-5, "{}: {difference:.1e}", device.description());
    }
    let rounded = logps(&model, Some(&policy), &rows, &cpu, bf16);
    let difference = largest_difference(&rounded, &whole);
    // A relative error of 2^-9 in each of the base's weights: it shows, and it is small.
    assert!((1e-4..0.5).contains(&difference), "{difference:.1e}");
    for device in gpus() {
        // Both round the same weights, and no adapter.
        let difference = largest_difference(&logps(&model, Some(&policy), &rows, device, bf16), &rounded);
        assert!(difference <= 2e-5, "{}: {difference:.1e}", device.description());
    }
    // Where matrices are cut, blocks are not.
    let in_q8 = Storage::frozen(DType::Q8);
    for storage in [in_q8, Storage::frozen(DType::Q4), Storage { head: Some(DType::Q8), ..in_q8 }] {
        let in_blocks = logps(&model, Some(&policy), &rows, &cpu, storage);
        let difference = largest_difference(&in_blocks, &whole);
        assert!((1e-4..0.5).contains(&difference), "{storage:?}: {difference:.1e}");
        for device in small_devices(1100) {
            let found = logps(&model, Some(&policy), &rows, &device, storage);
            let difference = largest_difference(&found, &in_blocks);
            assert!(difference <= 2e-5, "{storage:?} on {}: {difference:.1e}", device.description());
        }
    }
}

/// A configuration that goes on from a golden set's adapters, on one base.
fn going_on(set: &Path, output: &Path) -> Value {
    let path = |part: &str| set.join(part).to_str().unwrap().to_owned();
    with(
        config(set, "rows.jsonl", output),
        json!({"model": path("model"), "adapter": set.join("policy"), "value_model": path("value")}),
    )
}

#[test]
fn a_step_of_dqo_with_adapters_is_autograds() {
    for (name, weights) in sets() {
        let set = set(name);
        for case in json_lines(&set.join("cases.jsonl")) {
            let case_name = case["case"].as_str().unwrap();
            let gradients = tensors(&set.join(format!("{case_name}.safetensors")));
            for (device, dtype) in devices() {
                let label = format!("{name}, reference {case_name}, on {}", device.description());
                let output = tempfile::tempdir().unwrap();
                let config = with(
                    going_on(&set, output.path()),
                    json!({
                        "ref_model": (case_name == "base").then(|| set.join("model").to_str().unwrap().to_owned()),
                        "optimizer": OptimizerType::Sgd, "learning_rate": 1.0, "max_grad_norm": 0.0,
                        "max_steps": 1, "gradient_checkpointing": case_name == "start", "dtype": dtype, "base": weights.base,
                        "base_head": weights.base_head,
                    }),
                );
                let metrics = train(config, &device);
                for loss in ["policy_loss", "value_loss"] {
                    let (found, expected) = (metrics[0][loss].as_f64().unwrap(), case[loss].as_f64().unwrap());
                    assert!((found - expected).abs() <= 1e-4 * expected, "{label}: {loss} is {found}, not {expected}");
                }
                for part in ["policy", "value"] {
                    let (before, after) = (set.join(part), output.path().join("final").join(part));
                    let files = (before.join(WEIGHTS), after.join(WEIGHTS));
                    compare_step((&files.0, &files.1), &format!("{part}."), &gradients, &label);
                }
            }
        }
    }
}

/// Names and shapes of a file's tensors.
pub fn shapes(path: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect()
}

/// New adapters over a set's base.
pub fn new_adapters(set: &Path, output: &Path) -> Value {
    with(
        going_on(set, output),
        json!({"adapter": null, "value_model": null, "lora_r": 3, "lora_alpha": 6.0, "max_steps": 2}),
    )
}

#[test]
fn new_adapters_change_nothing_yet_and_come_from_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("gemma");
    let start = |label: &str, seed: u64| {
        let output = dir.path().join(label);
        let config = with(new_adapters(&set, &output), json!({"seed": seed, "learning_rate": 0.0, "max_steps": 1}));
        train(config, &Device::cpu(Precision::F32));
        output.join("final")
    };
    let (first, again, other) = (start("first", 1), start("again", 1), start("other", 2));
    let weights = |run: &Path, part: &str| tensors(&run.join(part).join(WEIGHTS));
    let policy = weights(&first, "policy");
    assert_eq!(policy, weights(&again, "policy"));
    assert_ne!(policy, weights(&other, "policy"));
    assert_ne!(policy.values().next(), weights(&first, "value").values().next());
    for (name, values) in &policy {
        if name.ends_with("lora_B.weight") {
            assert!(values.iter().all(|value| *value == 0.0), "{name}");
        } else {
            // kaiming_uniform_(a = sqrt(5)): uniform within 1 / sqrt(in), so the variance is bound^2 / 3.
            let bound = 1.0 / (values.len() as f64 / 3.0).sqrt();
            assert!(values.iter().all(|value| value.abs() <= bound), "{name}");
            let variance = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
            assert!((0.5..1.6).contains(&(3.0 * variance / (bound * bound))), "{name}: {variance}");
        }
    }
    let rows = set.join("rows.jsonl");
    let cpu = Device::cpu(Precision::F32);
    let model = set.join("model");
    let with = logps(&model, Some(&first.join("policy")), &rows, &cpu, Storage::frozen(DType::Real));
    assert_eq!(with, logps(&model, None, &rows, &cpu, Storage::frozen(DType::Real)));
    let begun = values(&model, Some(&first.join("value")), &rows, &cpu, Storage::frozen(DType::Real));
    assert!(begun.iter().flatten().all(|value| *value == 0.0));
}

#[test]
fn only_the_chosen_layers_have_adapters() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("qwen2");
    let config = with(
        new_adapters(&set, dir.path()),
        json!({"lora_target_modules": vec![TargetModule::QProj, TargetModule::DownProj]}),
    );
    train(config, &Device::cpu(Precision::F32));
    let names = shapes(&dir.path().join("final/policy").join(WEIGHTS));
    assert_eq!(names.len(), 2 * 2 * 2);
    assert!(names.keys().all(|name| name.contains(".q_proj.") || name.contains(".down_proj.")), "{names:?}");
}

#[test]
fn training_with_adapters_lowers_the_loss_on_every_device() {
    for value in [ValueNetwork::SharedBase, ValueNetwork::Copy] {
        let losses = |device: &Device, dtype| -> Vec<f64> {
            let dir = tempfile::tempdir().unwrap();
            let config = with(
                new_adapters(&set("llama"), dir.path()),
                json!({"dtype": dtype, "value": value, "learning_rate": 1e-2, "max_steps": 20}),
            );
            let metrics = train(config, device);
            let is_whole = dir.path().join("final/value/model.safetensors").exists();
            assert_eq!(is_whole, value == ValueNetwork::Copy);
            metrics.iter().map(|row| row["loss"].as_f64().unwrap()).collect()
        };
        let expected = losses(&Device::cpu(Precision::F64), WeightType::F64);
        assert!(expected[19] < 0.5 * expected[0], "{expected:?}");
        for gpu in gpus() {
            let found = losses(gpu, WeightType::F32);
            let off = |(a, b): (&f64, &f64)| (a - b).abs() / b.abs().max(0.1 * expected[0]);
            let off = found.iter().zip(&expected).map(off).fold(0.0, f64::max);
            // AdamW divides by the root of v, which amplifies rounding where a gradient is small.
            assert!(off <= 1e-3, "{}: losses differ by {off:.1e}", gpu.description());
        }
    }
}

#[test]
fn policy_and_value_share_one_frozen_base() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("llama");
    let parameters: u64 =
        shapes(&set.join("model/model.safetensors")).values().map(|shape| shape.iter().product::<usize>() as u64).sum();
    for dtype in [WeightType::F32, WeightType::Bf16] {
        let output = dir.path().join(format!("{dtype:?}"));
        let config = with(new_adapters(&set, &output), json!({"dtype": dtype}));
        let run = open(&config, &Device::cpu(Precision::F32));
        let plan = run.plan().unwrap();
        let base: Vec<_> = plan.buffers.iter().filter(|buffer| buffer.name.starts_with("base/")).collect();
        let bytes: u64 = base.iter().map(|buffer| buffer.bytes).sum();
        let expected = parameters * if dtype == WeightType::Bf16 { 2 } else { 4 };
        // Vectors stay f32, and rows are filled up.
        assert!((expected..expected + expected / 8).contains(&bytes), "{bytes} bytes, {expected} expected");
        for buffer in &plan.buffers {
            let name = &buffer.name;
            let of_network =
                ["/weights/", "/gradients/", "/moments/", "/masters/"].iter().any(|part| name.contains(part));
            let is_trained = name.contains(".lora_") || name.contains("/score.");
            assert!(!of_network || is_trained || name.starts_with("base/weights/"), "{name}");
            assert!(!(name.starts_with("base/") && is_trained), "{name}");
        }
        let adapters = shapes(&set.join("policy").join(WEIGHTS))
            .values()
            .map(|shape| shape.iter().product::<usize>())
            .sum::<usize>();
        // The value network's head is trained too.
        assert_eq!(plan.trainable_parameters, 2 * adapters + 16 + 1);

        run.train(false, Watch::silent(&AtomicBool::new(false))).unwrap();
        let metrics = json_lines(&output.join("metrics.jsonl"));
        assert_eq!(metrics[1]["peak_memory_bytes"].as_u64().unwrap(), plan.peak_bytes);
    }
}

#[test]
fn a_7b_model_with_adapters_is_planned_under_24_gib() {
    for model in ["qwen2-7b", "gemma-1.1-7b-it"] {
        for binding in [(2 << 30) - 1, 128 << 20] {
            let config = json!({
                "method": "dqo", "model": golden("configs").join(model).display().to_string(),
                "dtype": WeightType::Bf16, "tokens_per_micro_batch": 1024, "gradient_checkpointing": true,
                "lora_r": 16,
            });
            let device = Device::cpu(Precision::F32).limited_to(binding);
            let plan = Run::open_to_plan(settings(&config), |_| Ok(device)).unwrap().plan().unwrap();
            assert!(plan.peak_bytes < 24 << 30, "{model}: {} bytes", plan.peak_bytes);
            assert!(plan.largest_binding.unwrap().bytes <= binding, "{model}");
            let embeddings = plan.buffers.iter().filter(|buffer| buffer.name.ends_with("/model.embed_tokens.weight"));
            assert_eq!(embeddings.count(), 1, "{model}");
        }
    }
}

#[test]
fn a_resumed_run_with_adapters_is_the_whole_one_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("qwen2");
    let run = |output: &str, steps: &str, more: &[&str]| {
        let output = dir.path().join(output);
        let mut command = dqo();
        command.args(["train", "--method", "dqo", "--device", "cpu", "--batch-size", "3", "--learning-rate", "1e-2"]);
        command
            .args(["--lora-r", "3", "--lora-dropout", "0.2", "--weight-decay", "0.1", "--max-steps", steps])
            .args(more);
        command.arg("--model").arg(set.join("model")).arg("--data").arg(set.join("rows.jsonl"));
        command.arg("--output-dir").arg(&output).stdout(Stdio::null());
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        output
    };
    for value in ["shared-base", "copy"] {
        let (whole, cut) = (format!("whole {value}"), format!("cut {value}"));
        let whole = run(&whole, "9", &["--value", value]);
        run(&cut, "4", &["--value", value]);
        let cut = run(&cut, "9", &["--value", value, "--resume"]);
        let checkpoint = cut.join("checkpoint-000009/policy");
        assert!(!checkpoint.join("model.safetensors").exists() && checkpoint.join(WEIGHTS).exists());
        let value_file = if value == "copy" { "model.safetensors" } else { WEIGHTS };
        for file in [format!("policy/{WEIGHTS}"), format!("value/{value_file}")] {
            let read = |run: &Path| std::fs::read(run.join("final").join(&file)).unwrap();
            assert!(read(&whole) == read(&cut), "{value}: {file}");
        }
    }
}
