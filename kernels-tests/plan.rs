//! The plan against what a run allocates, and plans of models far larger than this machine, from their configuration alone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dqo_wgpu::device::{DType, Device, MatmulPrecision, Precision};
use dqo_wgpu::gpu::DeviceChoice;
use dqo_wgpu::model::{ActivationType, HeadType, WeightType};
use dqo_wgpu::model::{Build, ModelConfig, Policy, Storage, save_policy};
use dqo_wgpu::self_test::open_device;
use dqo_wgpu::train::{OptimizerType, Plan, Run, Watch};
use serde_json::{Value, json};

use crate::command::{dqo, error_of};
use crate::harness::skip_gpu;
use crate::model::{golden, json_lines};
use crate::training::{self, open, with};

/// A model of zeros with the family's configuration and these sizes, large enough that what is rounded up does not count.
fn model_of_zeros(source: &Path, dir: &Path, sizes: Value) -> PathBuf {
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut json: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    json.extend(sizes.as_object().unwrap().clone());
    json.remove("layer_types");
    let config = ModelConfig::of_json(json).unwrap();
    let device = Device::plan(&Device::cpu(Precision::F32));
    let storage = Storage::frozen(DType::Real);
    let mut policy = Policy::load(&Build::new(&device, &config, None, "policy", storage), 1).unwrap();
    let model = dir.join("model");
    save_policy(&mut policy, &config, None, source, &model).unwrap();
    model
}

fn sizes(vocab_size: usize) -> Value {
    json!({
        "hidden_size": 192, "intermediate_size": 640, "num_hidden_layers": 5, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 32, "vocab_size": vocab_size, "max_position_embeddings": 512,
    })
}

fn write_rows(path: &Path) {
    let ids = |count: usize| (0..count).map(|id| id % 19).collect::<Vec<_>>();
    let row = |tokens| json!({"prompt_ids": ids(5), "completion_ids": ids(tokens), "reward": 1.0}).to_string();
    std::fs::write(path, [40, 21, 33, 9].map(row).join("\n")).unwrap();
}

/// What a GPU's allocator holds at most while `work` runs.
fn most_allocated(device: &Device, work: impl FnOnce()) -> u64 {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(device.as_gpu().unwrap().allocator_bytes().unwrap());
                std::thread::sleep(Duration::from_millis(1));
            }
            most
        });
        work();
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    })
}

fn near(planned: u64, allocated: u64, label: &str) {
    let off = planned.abs_diff(allocated) as f64 / allocated as f64;
    assert!(off <= 0.02, "{label}: {planned} bytes planned, {allocated} allocated: {:.2} % off", 100.0 * off);
}

/// Trains two steps on the CPU device and on a GPU of its own, and holds the peaks against the plan.
fn peak_is_as_planned(source: &Path, vocab_size: usize, settings: Value) {
    let dir = tempfile::tempdir().unwrap();
    let model = model_of_zeros(source, dir.path(), sizes(vocab_size));
    let data = dir.path().join("rows.jsonl");
    write_rows(&data);
    let gpu = (!skip_gpu()).then(|| open_device(&DeviceChoice::Gpu, Precision::F32, MatmulPrecision::Highest).unwrap());
    for device in std::iter::once(Device::cpu(Precision::F32)).chain(gpu) {
        let output = dir.path().join(if device.as_gpu().is_some() { "gpu" } else { "cpu" });
        let config = with(
            settings.clone(),
            json!({
                "model": model.display().to_string(), "data": data.clone(), "output_dir": output.clone(),
                "max_steps": 2, "save_steps": 0,
            }),
        );
        let run = open(&config, &device);
        let plan = run.plan().unwrap();
        assert_eq!(plan.buffers.iter().map(|buffer| buffer.bytes).sum::<u64>(), plan.peak_bytes);
        let train = || drop(run.train(false, Watch::silent(&AtomicBool::new(false))).unwrap());
        let label = device.description();
        if device.as_gpu().is_some() {
            // By the driver's allocator: the ledger's own count is not asked.
            near(plan.peak_bytes, most_allocated(&device, train), &label);
        } else {
            train();
        }
        let metrics = json_lines(&output.join("metrics.jsonl"));
        near(plan.peak_bytes, metrics[1]["peak_memory_bytes"].as_u64().unwrap(), &label);
    }
}

const ADAMW: OptimizerType = OptimizerType::Adamw;
const SGD: OptimizerType = OptimizerType::Sgd;

fn settings(method: &str, dtype: WeightType, optimizer: OptimizerType, gradient_checkpointing: bool) -> Value {
    json!({
        "method": method, "dtype": dtype, "optimizer": optimizer,
        "gradient_checkpointing": gradient_checkpointing,
    })
}

#[test]
fn the_peak_of_sft_is_as_planned() {
    peak_is_as_planned(&golden("models/llama"), 24_000, settings("sft", WeightType::F32, ADAMW, false));
}

#[test]
fn the_peak_of_dqo_is_as_planned() {
    peak_is_as_planned(&golden("models/qwen2"), 12_000, settings("dqo", WeightType::F32, ADAMW, false));
}

#[test]
fn the_peak_of_dqo_with_gradient_checkpointing_is_as_planned() {
    let settings = settings("dqo", WeightType::F32, SGD, true);
    let settings = with(settings, json!({"tokens_per_micro_batch": 64}));
    peak_is_as_planned(&golden("models/qwen3"), 36_000, settings);
}

#[test]
fn the_peak_of_dqo_in_bf16_is_as_planned() {
    peak_is_as_planned(&golden("models/gemma"), 20_000, settings("dqo", WeightType::Bf16, ADAMW, true));
}

#[test]
fn the_peak_of_sft_in_bf16_is_as_planned() {
    peak_is_as_planned(&golden("models/mistral"), 36_000, settings("sft", WeightType::Bf16, SGD, false));
}

#[test]
fn the_peak_of_dqo_on_a_base_in_blocks_is_as_planned() {
    for (base, model) in [("q4", "llama"), ("q8", "qwen3")] {
        let settings = settings("dqo", WeightType::F32, ADAMW, true);
        let settings = with(settings, json!({"base": base, "lora_r": 8}));
        peak_is_as_planned(&golden("models").join(model), 150_000, settings);
    }
}

#[test]
fn the_peak_of_dqo_with_rounded_activations_is_as_planned() {
    for (checkpointing, model) in [(true, "gemma"), (false, "qwen3")] {
        let settings = settings("dqo", WeightType::F32, SGD, checkpointing);
        let settings = with(settings, json!({"activations": ActivationType::Bf16, "tokens_per_micro_batch": 64}));
        peak_is_as_planned(&golden("models").join(model), 12_000, settings);
    }
}

#[test]
fn the_peak_of_sft_with_moments_in_8_bits_is_as_planned() {
    let settings = settings("sft", WeightType::Bf16, OptimizerType::Adamw8bit, true);
    peak_is_as_planned(&golden("models/llama"), 12_000, settings);
}

#[test]
fn the_peak_with_evaluations_is_as_planned() {
    let dir = tempfile::tempdir().unwrap();
    let problems = dir.path().join("problems.jsonl");
    std::fs::write(&problems, r#"{"question": "12+34", "answer": "4+2=6\n#### 46"}"#).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    let settings =
        with(settings("dqo", WeightType::F32, ADAMW, false), json!({"eval_data": problems, "max_new_tokens": 8}));
    peak_is_as_planned(&source, 12_000, settings);
}

/// The plan of adapters of DQO on a model whose configuration is all that is here, of micro-batches of so many tokens.
pub fn plan_of_tokens(model: &str, tokens: usize) -> Plan {
    let config = with(
        settings("dqo", WeightType::Bf16, ADAMW, true),
        json!({
            "model": golden("configs").join(model).display().to_string(), "tokens_per_micro_batch": tokens, "lora_r": 16,
            "max_length": tokens,
        }),
    );
    let device = Device::cpu(Precision::F32);
    Run::open_to_plan(training::settings(&config), |_| Ok(device)).unwrap().plan().unwrap()
}

/// The plan of a model whose configuration is all that is here, on a device that binds at most so much.
fn plan_of(model: &str, binding: u64) -> Plan {
    let config = with(
        settings("dqo", WeightType::Bf16, ADAMW, true),
        json!({"model": golden("configs").join(model).display().to_string(), "tokens_per_micro_batch": 1024}),
    );
    let device = Device::cpu(Precision::F32).limited_to(binding);
    Run::open_to_plan(training::settings(&config), |_| Ok(device)).unwrap().plan().unwrap()
}

#[test]
fn a_7b_model_is_planned_within_any_binding() {
    // (model, its parameters)
    let models = [("qwen2-7b", 7_615_616_512), ("gemma-1.1-7b-it", 8_537_680_896)];
    for (model, parameters) in models {
        for binding in [(2 << 30) - 1, 128 << 20] {
            let start = Instant::now();
            let plan = plan_of(model, binding);
            assert!(start.elapsed() < Duration::from_secs(2), "{model}: {:?}", start.elapsed());
            let largest = plan.largest_binding.as_ref().unwrap();
            assert!(largest.bytes <= binding, "{model}: {} takes {}", largest.name, largest.bytes);
            assert_eq!(plan.binding_limit, Some(binding));

            let groups = plan.groups();
            let bytes = |name: &str| groups.iter().find(|(group, _)| group == name).unwrap().1;
            // Matrices in bf16, vectors in f32, rows filled up to multiples of 4: a trifle more than 2 bytes a parameter.
            let weights = bytes("policy weights");
            assert!((2 * parameters..2 * parameters + (16 << 20)).contains(&weights), "{model}: weights {weights}");
            // All that a frozen base, shared by both networks, is trained with beside the adapters and their optimizer:
            // under 24 GiB it leaves them more than 6.
            let others = ["policy activations", "value activations", "scratch", "batch"].map(bytes).iter().sum::<u64>();
            assert!(weights + others <= 18 << 30, "{model}: {} beside the adapters", weights + others);
        }
    }
}

#[test]
fn a_base_in_4_bits_is_planned_for_a_small_gpu() {
    const MIB: u64 = 1 << 20;
    // A Gemma's embedding alone takes 1.5 GiB in bf16.
    let (f32, bf16) = (ActivationType::F32, ActivationType::Bf16);
    for (model, activations, base_head, most) in [
        ("qwen2-7b", f32, HeadType::Bf16, 8000 * MIB),
        ("qwen2-7b", f32, HeadType::Q8, 7168 * MIB),
        // Beside it a GPU takes 8 MiB for transfers.
        ("gemma-1.1-7b-it", f32, HeadType::Bf16, 8184 * MIB),
        ("gemma-1.1-7b-it", bf16, HeadType::Bf16, 7936 * MIB),
        ("gemma-1.1-7b-it", f32, HeadType::Q8, 7680 * MIB),
        ("qwen3-4b", f32, HeadType::Bf16, 5632 * MIB),
    ] {
        let config = with(
            settings("dqo", WeightType::F32, ADAMW, true),
            json!({
                "model": golden("configs").join(model).display().to_string(), "tokens_per_micro_batch": 1024, "lora_r": 16,
                "base": "q4", "base_head": base_head, "activations": activations,
            }),
        );
        let device = Device::cpu(Precision::F32);
        let plan = Run::open_to_plan(training::settings(&config), |_| Ok(device)).unwrap().plan().unwrap();
        assert!(plan.peak_bytes <= most, "{model} {activations:?} {base_head:?}: {} of {most} bytes", plan.peak_bytes);
    }
}

/// Whole fine-tuning: a weight's two moments take 2 bytes and 8 of each 256 weights in place of 8 bytes.
#[test]
fn moments_in_8_bits_are_planned_at_a_quarter() {
    let moments = |optimizer| {
        let config = with(
            settings("sft", WeightType::Bf16, optimizer, true),
            json!({"model": golden("configs/qwen2-7b").display().to_string(), "tokens_per_micro_batch": 1024}),
        );
        let device = Device::cpu(Precision::F32);
        let plan = Run::open_to_plan(training::settings(&config), |_| Ok(device)).unwrap().plan().unwrap();
        plan.groups().iter().find(|(group, _)| group == "policy moments").unwrap().1 as f64
    };
    let share = moments(OptimizerType::Adamw8bit) / moments(ADAMW);
    let expected = (2.0 + 8.0 / 256.0) / 8.0;
    // Norms and biases of fewer than 4096 weights are few.
    assert!((share - expected).abs() <= 1e-4, "{share}, not {expected}");
}

#[test]
fn a_tensor_larger_than_a_binding_is_refused_by_name() {
    let config = with(
        settings("sft", WeightType::Bf16, ADAMW, false),
        json!({
            "model": golden("configs/gemma-1.1-7b-it").display().to_string(), "tokens_per_micro_batch": 2048,
            "max_length": 2048,
        }),
    );
    let device = Device::cpu(Precision::F32).limited_to(128 << 20);
    let error = Run::open_to_plan(training::settings(&config), |_| Ok(device)).unwrap().plan().unwrap_err().to_string();
    assert!(error.contains("takes 192.0 MiB and this device holds at most 128.0 MiB in one tensor"), "{error}");
    assert!(error.contains("use smaller batches (--tokens-per-micro-batch"), "{error}");
}

#[test]
fn the_verb_plans_from_a_configuration_alone() {
    for model in ["qwen2-7b", "gemma-1.1-7b-it"] {
        let mut command = dqo();
        command.args(["plan", "--method", "dqo", "--device", "cpu", "--json", "--gradient-checkpointing"]);
        command.args(["--dtype", "bf16", "--tokens-per-micro-batch", "1024", "--model"]);
        command.arg(golden("configs").join(model));
        // The exit code says that it does not fit here; the plan is shown all the same.
        let plan: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        assert_eq!(plan["micro_batch_tokens"], 1024);
        assert!(plan["assumed"].as_str().unwrap().starts_with("no --data: "), "{}", plan["assumed"]);
        assert!(plan["steps"].is_null() && plan["rows"].is_null());
        let names: Vec<_> = plan["buffers"].as_array().unwrap().iter().map(|buffer| &buffer["name"]).collect();
        // Of a layer only its input is kept.
        assert!(names.iter().any(|name| *name == "policy/activations/stream/27"));
        assert!(names.iter().any(|name| *name == "scratch/layer/mlp/gate"));
        assert!(!names.iter().any(|name| name.as_str().unwrap().contains("activations/layer")));
    }

    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    std::fs::write(&rows, json!({"prompt": "a", "completion": "b", "reward": 1.0}).to_string()).unwrap();
    let mut command = dqo();
    command.args(["plan", "--method", "dqo", "--device", "cpu", "--model"]).arg(golden("configs/qwen2-7b"));
    let message = error_of(command.arg("--data").arg(&rows));
    assert!(message.ends_with("has no tokenizer.json; give prompt_ids and completion_ids"), "{message}");
    assert!(message.starts_with(&format!("{}:1: ", rows.display())), "{message}");
}

#[test]
fn what_is_larger_than_a_transfer_comes_back() {
    // Odd, and more than two parts of a transfer in either type.
    const LEN: usize = (5 << 20) + 3;
    let value = |index: usize| (index % 251) as f64 - 125.0;
    let mut devices = vec![Device::cpu(Precision::F32)];
    devices.extend(
        (!skip_gpu()).then(|| open_device(&DeviceChoice::Gpu, Precision::F32, MatmulPrecision::Highest).unwrap()),
    );
    for device in devices {
        let mut copy = device.tensor("copy", &[LEN], DType::Real).unwrap();
        for dtype in [DType::Real, DType::Bf16] {
            let mut tensor = device.tensor("tensor", &[LEN], dtype).unwrap();
            tensor.write(0, (0..LEN).map(value)).unwrap();
            copy.copy_from(&tensor).unwrap();
            for read in [&tensor, &copy] {
                let read = read.read(LEN).unwrap();
                assert!(read.into_iter().enumerate().all(|(index, read)| read == value(index)));
            }
        }
    }
}
