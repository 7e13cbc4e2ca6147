//! Adapters against PEFT: what they compute, one step of training, the files; one base; merging.
//! The goldens are made by tools/goldens/lora.py.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;

use dqo_wgpu::data::{Example, Examples, RowFile, Tokenizer};
use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::model::{Adapter, Checkpoint, ModelConfig};
use dqo_wgpu::train::{
    LinearLayer, Method, OptimizerType, Run, Scorer, Source, TokenLogps, TrainConfig, ValueNetwork, ValueScorer,
    WeightType,
};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::command::{copy_of, dqo, error_of, stderr};
use crate::harness::gpus;
use crate::model::{floats, golden, json_lines, largest_difference};
use crate::shards::small_devices;
use crate::training::{compare_step, config, devices, tensors, train};

const SETS: [&str; 4] = ["llama", "llama3", "qwen2", "gemma"];
const WEIGHTS: &str = "adapter_model.safetensors";

fn set(name: &str) -> std::path::PathBuf {
    golden("lora").join(name)
}

fn examples(model: &Path, rows: &Path) -> (ModelConfig, Vec<Example>) {
    let config = ModelConfig::read(model).unwrap();
    let tokenizer = Tokenizer::read(model, &config).unwrap();
    let file = RowFile::read(rows).unwrap();
    let examples = Examples::build(&file, &tokenizer, &config, usize::MAX).unwrap().examples;
    (config, examples)
}

/// Log-probs of rows under a model with adapters, or without.
fn logps(model: &Path, adapter: Option<&Path>, rows: &Path, device: &Device, dtype: DType) -> Vec<TokenLogps> {
    let (config, examples) = examples(model, rows);
    let (checkpoint, adapter) = (Checkpoint::open(model).unwrap(), adapter.map(|dir| Adapter::open(dir).unwrap()));
    let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: adapter.as_ref() };
    let mut scorer = Scorer::new(device, source, "policy", dtype, (&examples, 16)).unwrap();
    let mut all = Vec::new();
    let keep = |_, scored| {
        all.extend(scored);
        Ok(())
    };
    scorer.score(&examples, keep).unwrap();
    all
}

/// Values of rows under a value network with adapters, or without.
fn values(model: &Path, adapter: Option<&Path>, rows: &Path, device: &Device) -> Vec<Vec<f64>> {
    let (config, examples) = examples(model, rows);
    let (checkpoint, adapter) = (Checkpoint::open(model).unwrap(), adapter.map(|dir| Adapter::open(dir).unwrap()));
    let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: adapter.as_ref() };
    ValueScorer::new(device, source, DType::Real, (&examples, 16)).unwrap().score(&examples, |_| ()).unwrap()
}

fn largest(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected.iter().map(Vec::len).collect::<Vec<_>>());
    found.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn expected(set: &Path) -> (Vec<TokenLogps>, Vec<Vec<f64>>) {
    let rows = json_lines(&set.join("expected.jsonl"));
    let logps = |row: &Value| TokenLogps { logps: floats(&row["logps"]), entropies: floats(&row["entropies"]) };
    (rows.iter().map(logps).collect(), rows.iter().map(|row| floats(&row["values"])).collect())
}

#[test]
fn log_probs_and_values_with_adapters_are_pefts() {
    for name in SETS {
        let set = set(name);
        let (model, rows) = (set.join("model"), set.join("rows.jsonl"));
        let (expected_logps, expected_values) = expected(&set);
        for (device, _) in devices() {
            let label = format!("{name} on {}", device.description());
            let found = logps(&model, Some(&set.join("policy")), &rows, &device, DType::Real);
            let difference = largest_difference(&found, &expected_logps);
            assert!(difference <= 2e-5, "{label}: log-probs differ by {difference:.1e}");
            let without = largest_difference(&logps(&model, None, &rows, &device, DType::Real), &expected_logps);
            assert!(without > 1e-2, "{label}: the adapters change nothing");
            let difference = largest(&values(&model, Some(&set.join("value")), &rows, &device), &expected_values);
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
    let whole = logps(&model, Some(&policy), &rows, &cpu, DType::Real);
    for device in small_devices(1100) {
        let difference = largest_difference(&logps(&model, Some(&policy), &rows, &device, DType::Real), &whole);
        assert!(difference <= 2e-5, "{}: {difference:.1e}", device.description());
    }
    let rounded = logps(&model, Some(&policy), &rows, &cpu, DType::Bf16);
    let difference = largest_difference(&rounded, &whole);
    // A relative error of 2^-9 in each of the base's weights: it shows, and it is small.
    assert!((1e-4..0.5).contains(&difference), "{difference:.1e}");
    for device in gpus() {
        // Both round the same weights, and no adapter.
        let difference = largest_difference(&logps(&model, Some(&policy), &rows, device, DType::Bf16), &rounded);
        assert!(difference <= 2e-5, "{}: {difference:.1e}", device.description());
    }
}

/// A configuration that goes on from a golden set's adapters, on one base.
fn going_on(set: &Path, output: &Path) -> TrainConfig {
    let path = |part: &str| set.join(part).to_str().unwrap().to_owned();
    TrainConfig {
        model: Some(path("model")),
        adapter: Some(set.join("policy")),
        value_model: Some(path("value")),
        ..config(set, "rows.jsonl", output)
    }
}

#[test]
fn a_step_of_dqo_with_adapters_is_autograds() {
    for name in SETS {
        let set = set(name);
        for case in json_lines(&set.join("cases.jsonl")) {
            let case_name = case["case"].as_str().unwrap();
            let gradients = tensors(&set.join(format!("{case_name}.safetensors")));
            for (device, dtype) in devices() {
                let label = format!("{name}, reference {case_name}, on {}", device.description());
                let output = tempfile::tempdir().unwrap();
                let config = TrainConfig {
                    ref_model: (case_name == "base").then(|| set.join("model").to_str().unwrap().to_owned()),
                    optimizer: OptimizerType::Sgd,
                    learning_rate: 1.0,
                    max_grad_norm: 0.0,
                    max_steps: Some(1),
                    gradient_checkpointing: case_name == "start",
                    dtype,
                    ..going_on(&set, output.path())
                };
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
fn shapes(path: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect()
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// New adapters over a set's base.
fn new_adapters(set: &Path, output: &Path) -> TrainConfig {
    TrainConfig {
        adapter: None,
        value_model: None,
        lora_r: 3,
        lora_alpha: Some(6.0),
        max_steps: Some(2),
        ..going_on(set, output)
    }
}

#[test]
fn adapters_are_written_as_peft_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("llama");
    train(new_adapters(&set, dir.path()), &Device::cpu(Precision::F32));
    for part in ["policy", "value"] {
        let (ours, pefts) = (dir.path().join("final").join(part), set.join(part));
        assert_eq!(shapes(&ours.join(WEIGHTS)), shapes(&pefts.join(WEIGHTS)), "{part}");
        let (ours, pefts) =
            (json_file(&ours.join("adapter_config.json")), json_file(&pefts.join("adapter_config.json")));
        for name in ["peft_type", "task_type", "r", "lora_alpha", "bias", "use_rslora", "use_dora", "fan_in_fan_out"] {
            assert_eq!(ours[name], pefts[name], "{part}: {name}");
        }
        let sorted = |json: &Value| {
            let mut names: Vec<_> = json.as_array().unwrap().iter().map(Value::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&ours["target_modules"]), sorted(&pefts["target_modules"]), "{part}");
        assert_eq!(ours["base_model_name_or_path"], set.join("model").to_str().unwrap());
    }
    let config = json_file(&dir.path().join("final/value/adapter_config.json"));
    assert_eq!(config["modules_to_save"], json!(["score"]));
}

#[test]
fn new_adapters_change_nothing_yet_and_come_from_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("gemma");
    let start = |label: &str, seed: u64| {
        let output = dir.path().join(label);
        let config = TrainConfig { seed, learning_rate: 0.0, max_steps: Some(1), ..new_adapters(&set, &output) };
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
    let with = logps(&model, Some(&first.join("policy")), &rows, &cpu, DType::Real);
    assert_eq!(with, logps(&model, None, &rows, &cpu, DType::Real));
    assert!(values(&model, Some(&first.join("value")), &rows, &cpu).iter().flatten().all(|value| *value == 0.0));
}

#[test]
fn only_the_chosen_layers_have_adapters() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("qwen2");
    let config = TrainConfig {
        lora_target_modules: vec![LinearLayer::QProj, LinearLayer::DownProj],
        ..new_adapters(&set, dir.path())
    };
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
            let config = TrainConfig {
                dtype,
                value: Some(value),
                learning_rate: 1e-2,
                max_steps: Some(20),
                ..new_adapters(&set("llama"), dir.path())
            };
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
        let config = TrainConfig { dtype, ..new_adapters(&set, &output) };
        let run = Run::open_on(config, |_| Ok(Device::cpu(Precision::F32))).unwrap();
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

        run.train_quietly(&AtomicBool::new(false)).unwrap();
        let metrics = json_lines(&output.join("metrics.jsonl"));
        assert_eq!(metrics[1]["peak_memory_bytes"].as_u64().unwrap(), plan.peak_bytes);
    }
}

#[test]
fn a_7b_model_with_adapters_is_planned_under_24_gib() {
    for model in ["qwen2-7b", "gemma-1.1-7b-it"] {
        for binding in [(2 << 30) - 1, 128 << 20] {
            let config = TrainConfig {
                method: Some(Method::Dqo),
                model: Some(golden("configs").join(model).display().to_string()),
                dtype: WeightType::Bf16,
                tokens_per_micro_batch: 1024,
                gradient_checkpointing: true,
                lora_r: 16,
                ..TrainConfig::default()
            };
            let device = Device::cpu(Precision::F32).limited_to(binding);
            let plan = Run::open_to_plan(config, |_| Ok(device)).unwrap().plan().unwrap();
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
        command.args(["--lora-r", "3", "--weight-decay", "0.1", "--max-steps", steps]).args(more);
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

#[test]
fn a_merged_model_is_base_and_adapter() {
    let dir = tempfile::tempdir().unwrap();
    for name in SETS {
        let set = set(name);
        let (expected_logps, expected_values) = expected(&set);
        for part in ["policy", "value"] {
            let output = dir.path().join(format!("{name}-{part}"));
            let mut command = dqo();
            command.arg("merge").arg("--model").arg(set.join("model")).arg("--adapter").arg(set.join(part));
            let done = command.arg("--output").arg(&output).output().unwrap();
            assert!(done.status.success(), "{}", stderr(&done));
            let rows = set.join("rows.jsonl");
            for (device, _) in devices() {
                let difference = match part {
                    "policy" => largest_difference(&logps(&output, None, &rows, &device, DType::Real), &expected_logps),
                    _ => largest(&values(&output, None, &rows, &device), &expected_values),
                };
                assert!(difference <= 1e-4, "{name} {part} on {}: {difference:.1e}", device.description());
            }
            let message = error_of(&mut command);
            assert_eq!(message, format!("{}: exists already; choose another --output", output.display()));
        }
    }
    let config = json_file(&dir.path().join("gemma-value/config.json"));
    assert_eq!(config["architectures"][0], "GemmaForTokenClassification");
}

#[test]
fn merge_stores_weights_as_it_is_told_and_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("llama");
    let merge = |adapter: &Path, output: &Path| {
        let mut command = dqo();
        command.args(["merge", "--dtype", "bf16", "--model"]).arg(set.join("model"));
        command.arg("--adapter").arg(adapter).arg("--output").arg(output);
        command
    };
    let output = dir.path().join("merged");
    assert!(merge(&set.join("policy"), &output).output().unwrap().status.success());
    let bytes = std::fs::read(output.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.tensors().iter().all(|(_, view)| view.dtype() == safetensors::Dtype::BF16));
    assert_eq!(json_file(&output.join("config.json"))["dtype"], "bfloat16");

    let (other, output) = (golden("lora/gemma/policy"), dir.path().join("other"));
    error_of(&mut merge(&other, &output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn verbs_that_generate_take_adapters() {
    let dir = tempfile::tempdir().unwrap();
    let merged = dir.path().join("merged");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    let data = dir.path().join("rows.jsonl");
    std::fs::write(&data, json!({"prompt": "1+2=", "completion": "3", "reward": 1.0}).to_string()).unwrap();
    let run = dir.path().join("run");
    let mut command = dqo();
    command.args(["train", "--method", "dqo", "--device", "cpu", "--lora-r", "4", "--learning-rate", "0.05"]);
    command.args(["--max-steps", "3", "--model"]).arg(&model).arg("--data").arg(&data).arg("--output-dir").arg(&run);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let adapter = run.join("final/policy");
    let mut command = dqo();
    command.arg("merge").arg("--model").arg(&model).arg("--adapter").arg(&adapter).arg("--output").arg(&merged);
    assert!(command.output().unwrap().status.success());

    let sample = |model: &Path, adapter: Option<&Path>, batch: &str, name: &str| {
        let (problems, output) = (dir.path().join("problems.jsonl"), dir.path().join(name));
        let rows: String =
            (0..6).map(|n| json!({"prompt": format!("{n}+4="), "answer": "7"}).to_string() + "\n").collect();
        std::fs::write(&problems, rows).unwrap();
        let mut command = dqo();
        command.args(["sample", "--task", "none", "--device", "cpu", "--num-samples", "2", "--max-new-tokens", "12"]);
        command.args(["--batch-size", batch, "--model"]).arg(model).arg("--data").arg(&problems);
        if let Some(dir) = adapter {
            command.arg("--adapter").arg(dir);
        }
        let done = command.arg("--output").arg(&output).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        json_lines(&output)
    };
    let of_adapter = sample(&model, Some(&adapter), "12", "adapter.jsonl");
    // What a response becomes does not depend on its company, to the bit of its log-probs.
    let mut alone = sample(&model, Some(&adapter), "1", "alone.jsonl");
    let mut together = of_adapter.clone();
    for rows in [&mut alone, &mut together] {
        rows.sort_by_key(|row| row.to_string());
    }
    assert_eq!(alone, together);
    assert_ne!(of_adapter, sample(&model, None, "12", "base.jsonl"));

    let greedy = |model: &Path, adapter: Option<&Path>| {
        let mut command = dqo();
        command.args(["generate", "--device", "cpu", "--temperature", "0", "--json", "--max-new-tokens", "16"]);
        command.args(["--prompt", "12+34", "--model"]).arg(model);
        if let Some(dir) = adapter {
            command.arg("--adapter").arg(dir);
        }
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        serde_json::from_slice::<Value>(&done.stdout).unwrap()["completion_ids"].clone()
    };
    assert_eq!(greedy(&model, Some(&adapter)), greedy(&merged, None));

    let adapter = run.join("final/value");
    let values = |value: &Path, adapter: Option<&Path>| -> Vec<Vec<f64>> {
        let output = dir.path().join("values.jsonl");
        let mut command = dqo();
        command.args(["values", "--device", "cpu", "--value"]).arg(value).arg("--data").arg(&data);
        if let Some(dir) = adapter {
            command.arg("--adapter").arg(dir);
        }
        let done = command.arg("--output").arg(&output).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        json_lines(&output).iter().map(|row| floats(&row["values"])).collect()
    };
    let merged = dir.path().join("merged value");
    let mut command = dqo();
    command.arg("merge").arg("--model").arg(&model).arg("--adapter").arg(&adapter).arg("--output").arg(&merged);
    assert!(command.output().unwrap().status.success());
    let of_adapter = values(&model, Some(&adapter));
    assert!(of_adapter.iter().flatten().all(|value| *value != 0.0), "{of_adapter:?}");
    assert!(largest(&of_adapter, &values(&merged, None)) <= 1e-4);
}

#[test]
fn logp_takes_adapters_of_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("qwen2");
    let output = dir.path().join("out.jsonl");
    let run = |verb: &str, option: &str, adapter: &str| {
        let mut command = dqo();
        command.args([verb, "--device", "cpu", option]).arg(set.join("model")).arg("--adapter").arg(set.join(adapter));
        command.arg("--data").arg(set.join("rows.jsonl")).arg("--output").arg(&output);
        command
    };
    let (expected_logps, _) = expected(&set);
    let done = run("logp", "--model", "policy").output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let found: Vec<_> = json_lines(&output).iter().map(|row| floats(&row["logps"])).collect();
    let expected_logps: Vec<_> = expected_logps.into_iter().map(|row| row.logps).collect();
    assert!(largest(&found, &expected_logps) <= 2e-5);

    let message = error_of(&mut run("logp", "--model", "value"));
    assert_eq!(
        message,
        format!("{}: is a value network's: its task_type is TOKEN_CLS", set.join("value").join(WEIGHTS).display())
    );
    let message = error_of(&mut run("values", "--value", "policy"));
    assert_eq!(
        message,
        format!(
            "--adapter {}: its task_type is not TOKEN_CLS, which a value network's adapter has",
            set.join("policy").display()
        )
    );
}

/// The message that a configuration is refused with.
fn refusal(config: TrainConfig) -> String {
    match Run::open_on(config, |_| Ok(Device::cpu(Precision::F32))).and_then(|run| run.plan()) {
        Ok(_) => panic!("not refused"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn options_of_adapters_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("llama");
    let base = || TrainConfig { method: Some(Method::Dqo), ..new_adapters(&set, dir.path()) };
    let path = |part: &str| set.join(part).to_str().unwrap().to_owned();
    let full = || TrainConfig { lora_r: 0, lora_alpha: None, ..base() };
    assert_eq!(
        refusal(TrainConfig { value: Some(ValueNetwork::SharedBase), ..full() }),
        "--value shared-base: the value network is adapters on the policy's frozen base; give --lora-r or --adapter too"
    );
    assert_eq!(
        refusal(TrainConfig { lora_alpha: Some(8.0), ..full() }),
        "--lora-alpha goes with --lora-r, and describes new adapters"
    );
    assert_eq!(
        refusal(TrainConfig { lora_target_modules: vec![LinearLayer::QProj], ..full() }),
        "--lora-target-modules goes with --lora-r, and describes new adapters"
    );
    assert_eq!(
        refusal(TrainConfig { lora_alpha: Some(-1.0), ..base() }),
        "--lora-alpha is -1, which is out of its range"
    );
    assert_eq!(
        refusal(TrainConfig { adapter: Some(set.join("policy")), ..base() }),
        "--adapter and --lora-r: the adapters to go on from have their rank; leave --lora-r out"
    );
    assert_eq!(
        refusal(TrainConfig { value_model: Some(path("model")), ..base() }),
        format!(
            "--value-model {}: is a whole network, and with --value shared-base the value network is an adapter; give its \
             directory, or --value copy",
            path("model")
        )
    );
    assert_eq!(
        refusal(TrainConfig { value_model: Some(path("value")), ..full() }),
        format!(
            "--value-model {}: is an adapter, which goes with --value shared-base and --lora-r or --adapter",
            path("value")
        )
    );
    assert_eq!(
        refusal(TrainConfig { value_model: Some(path("policy")), ..base() }),
        format!(
            "--value-model {}: its task_type is not TOKEN_CLS, which a value network's adapter has",
            path("policy")
        )
    );
    assert_eq!(
        refusal(TrainConfig { adapter: Some(set.join("policy")), value: Some(ValueNetwork::Copy), ..full() }),
        "--value copy begins with the policy's weights, of which --adapter is a part; merge them first (`merge`), or name \
         a --value-model"
    );
    assert_eq!(
        refusal(TrainConfig { adapter: Some(set.join("model")), ..full() }),
        format!("{}: is a model, not an adapter; give it with --model", path("model"))
    );
    assert_eq!(
        refusal(TrainConfig { model: Some(path("policy")), ..base() }),
        format!(
            "{}: is an adapter, not a model; give the model that it belongs to, and this with --adapter",
            path("policy")
        )
    );
    let other = golden("lora/gemma/policy");
    assert_eq!(
        refusal(TrainConfig { adapter: Some(other.clone()), ..full() }),
        format!(
            "{}: base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight has the shape [40, 5], and \
             adapter_config.json and this base make it [48, 5]; the adapter was made for another base",
            other.join(WEIGHTS).display()
        )
    );
    let mut command = dqo();
    let output = command.args(["train", "--lora-target-modules", "q_proj,lm_head"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("invalid value 'lm_head'") && text.contains("[possible values: q_proj, k_proj,"), "{text}");
}

#[test]
fn what_is_not_computed_of_an_adapters_configuration_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = copy_of("lora/llama/policy", &dir.path().join("adapter"));
    let path = adapter.join("adapter_config.json");
    let original = json_file(&path);
    let open = |name: &str, value: Value| {
        let mut json = original.clone();
        json[name] = value;
        std::fs::write(&path, json.to_string()).unwrap();
        match Adapter::open(&adapter) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}").replace(&format!("{}: ", path.display()), ""),
        }
    };
    let known = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";
    let refused = [
        ("peft_type", json!("IA3"), "peft_type \"IA3\" is not supported; only \"LORA\" is".to_owned()),
        ("task_type", json!("SEQ_CLS"), "task_type \"SEQ_CLS\" is not supported; CAUSAL_LM and TOKEN_CLS are".to_owned()),
        ("bias", json!("all"), "bias \"all\" is not supported; only \"none\" is".to_owned()),
        ("use_dora", json!(true), "use_dora true is not supported; use adapters without it".to_owned()),
        ("fan_in_fan_out", json!(true), "fan_in_fan_out true is not supported; use adapters without it".to_owned()),
        (
            "rank_pattern",
            json!({"q_proj": 8}),
            "rank_pattern {\"q_proj\":8} is not supported; use adapters without it".to_owned(),
        ),
        (
            "layers_to_transform",
            json!([1]),
            "layers_to_transform [1] is not supported; use adapters without it".to_owned(),
        ),
        (
            "target_modules",
            json!(".*proj"),
            "target_modules \".*proj\" is a pattern, which is not supported; give a list of names".to_owned(),
        ),
        (
            "target_modules",
            json!(["lm_head"]),
            format!("target_modules contains \"lm_head\", which is not supported; supported are {known}"),
        ),
        (
            "modules_to_save",
            json!(["lm_head"]),
            "modules_to_save contains \"lm_head\", which is not supported; only a value network's \"score\" is".to_owned(),
        ),
        (
            "init_lora_weights",
            json!("pissa"),
            "init_lora_weights \"pissa\" is not supported: such adapters belong to another base than the model's weights"
                .to_owned(),
        ),
        ("r", json!(0), "r 0 is not a number above 0".to_owned()),
        ("lora_alpha", json!("x"), "lora_alpha \"x\" is not a number above 0".to_owned()),
        ("lora_alpha", json!(8), String::new()),
        ("target_modules", json!("all-linear"), String::new()),
    ];
    for (name, value, expected) in refused {
        assert_eq!(open(name, value), expected);
    }
}
