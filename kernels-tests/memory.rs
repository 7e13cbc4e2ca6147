//! Memory: what is planned is what is allocated, and the LM head's is bounded.

use std::sync::atomic::AtomicBool;

use dqo_wgpu::device::{DType, Device, MatmulPrecision, Precision};
use dqo_wgpu::gpu::DeviceChoice;
use dqo_wgpu::model::WeightType;
use dqo_wgpu::model::{Build, LmHeadActivations, ModelConfig, Policy, Storage};
use dqo_wgpu::self_test::open_device;
use dqo_wgpu::train::Watch;
use serde_json::json;

use crate::harness::{gpus, skip_gpu};
use crate::model::{golden, json_lines};
use crate::training::{config, devices, open, train, with};

fn config_with(vocabulary: usize) -> ModelConfig {
    let json = json!({
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": vocabulary, "hidden_act": "silu",
    });
    ModelConfig::of_json(json.as_object().unwrap().clone()).unwrap()
}

fn lm_head_bytes(device: &Device, positions: usize, vocabulary: usize) -> u64 {
    let config = config_with(vocabulary);
    let build = Build::new(device, &config, None, "policy", Storage::trained(DType::Real));
    let before = device.allocated_bytes();
    let head = LmHeadActivations::new(&build, positions).unwrap();
    let bytes = device.allocated_bytes() - before;
    drop(head);
    assert_eq!(device.allocated_bytes(), before);
    bytes
}

#[test]
fn the_lm_heads_scratch_does_not_grow_with_tokens_times_vocabulary() {
    let cpu = Device::cpu(Precision::F32);
    let device = Device::plan(&cpu);
    let bytes = lm_head_bytes(&device, 4096, 151_936);
    assert!(bytes <= 64 << 20, "{bytes} bytes");
    assert_eq!(lm_head_bytes(&device, 4096, 10 * 151_936), bytes);
    // With ten times the tokens only the 28 bytes a token of statistics grow.
    let more = lm_head_bytes(&device, 40_960, 151_936);
    assert_eq!(more - bytes, 9 * 4096 * 28);
    assert_eq!(lm_head_bytes(&cpu, 4096, 151_936), bytes);
}

#[test]
fn the_drivers_allocator_counts_the_same() {
    if skip_gpu() {
        return;
    }
    // A device of its own: what other tests allocate would count too.
    let device = &open_device(&DeviceChoice::Gpu, Precision::F32, MatmulPrecision::Highest).unwrap();
    let count = || device.as_gpu().unwrap().allocator_bytes().unwrap();
    let config = config_with(151_936);
    let build = Build::new(device, &config, None, "policy", Storage::trained(DType::Real));
    device.synchronize().unwrap();
    let (before, ledger_before) = (count(), device.allocated_bytes());
    let head = LmHeadActivations::new(&build, 4096).unwrap();
    let (after, ledger_after) = (count(), device.allocated_bytes());
    drop(head);
    let (counted, ledger) = (after - before, ledger_after - ledger_before);
    assert!(counted <= 64 << 20, "{counted} bytes");
    // The allocator rounds each buffer up to its alignment.
    assert!(
        counted >= ledger && counted - ledger <= 5 * 4096,
        "{counted} bytes by the allocator, {ledger} by the ledger"
    );
}

#[test]
fn what_is_planned_is_what_is_allocated() {
    let cpus = [Device::cpu(Precision::F32), Device::cpu(Precision::F64)];
    for device in cpus.iter().chain(gpus()) {
        let output = tempfile::tempdir().unwrap();
        let dtype = match device.precision() {
            Precision::F32 => dqo_wgpu::model::WeightType::F32,
            Precision::F64 => dqo_wgpu::model::WeightType::F64,
        };
        let base = config(&golden("dqo/qwen3"), "rows.jsonl", output.path());
        let run = open(&with(base, json!({"dtype": dtype, "max_steps": 2})), device);
        let plan = run.plan().unwrap();
        let grouped: u64 = plan.groups().iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(plan.buffers.iter().map(|buffer| buffer.bytes).sum::<u64>(), grouped);
        // GPUs are shared by the tests of this process: only a CPU device of one's own has a peak of one's own.
        if device.as_gpu().is_none() {
            run.train(false, Watch::silent(&AtomicBool::new(false))).unwrap();
            let metrics = json_lines(&output.path().join("metrics.jsonl"));
            assert_eq!(metrics[1]["peak_memory_bytes"].as_u64().unwrap(), plan.peak_bytes);
        }
    }
}

#[test]
fn a_sequence_too_long_for_llvmpipes_loops_is_refused() {
    for device in gpus().iter().filter(|device| device.limits().short_loops) {
        let config = config_with(32);
        let planned = Device::plan(device);
        let storage = Storage::frozen(DType::Real);
        let load = |positions| Policy::load(&Build::new(&planned, &config, None, "policy", storage), positions);
        assert!(load(8192).is_ok());
        assert_eq!(
            load(8193).err().unwrap().to_string(),
            "a sequence has 8193 tokens, and this adapter's driver computes attention over at most 8192; use a smaller \
             --max-length or --device cpu"
        );
    }
}

#[test]
fn an_mlp_too_wide_for_llvmpipes_loops_is_refused() {
    for device in gpus().iter().filter(|device| device.limits().short_loops) {
        let planned = Device::plan(device);
        let load = |intermediate_size| {
            let config = ModelConfig { intermediate_size, ..config_with(32) };
            let build = Build::new(&planned, &config, None, "policy", Storage::frozen(DType::Real));
            Policy::load(&build, 32)
        };
        assert!(load(98_304).is_ok());
        assert_eq!(
            load(98_308).err().unwrap().to_string(),
            "the model's intermediate_size is 98308, and this adapter's driver computes one of at most 98304; use --device cpu"
        );
    }
}

#[test]
fn gradient_checkpointing_gives_the_same_weights_to_the_bit() {
    // Biases on queries, keys and values; norms on heads; a tied head with scaled embeddings.
    for family in ["qwen2", "qwen3", "gemma", "gemma3"] {
        let in_f32 = std::iter::once(Device::cpu(Precision::F32)).chain(gpus().iter().cloned());
        for (device, dtype) in devices().into_iter().chain(in_f32.map(|device| (device, WeightType::Bf16))) {
            let run = |gradient_checkpointing: bool| {
                let dir = tempfile::tempdir().unwrap();
                let base = config(&golden("dqo").join(family), "rows.jsonl", dir.path());
                // Several micro-batches a step, of one row and of more.
                let config = with(
                    base,
                    json!({
                        "dtype": dtype, "gradient_checkpointing": gradient_checkpointing,
                        "tokens_per_micro_batch": 24, "learning_rate": 1e-3, "max_steps": 3,
                    }),
                );
                train(config, &device);
                let file = |path: &str| std::fs::read(dir.path().join(path)).unwrap();
                [
                    "final/policy/model.safetensors",
                    "final/value/model.safetensors",
                    "checkpoint-000003/optimizer.safetensors",
                ]
                .map(file)
            };
            assert!(run(true) == run(false), "{family} in {dtype:?} on {}", device.description());
        }
    }
}
