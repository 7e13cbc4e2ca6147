//! With gradient checkpointing a wide MLP goes over its tokens by blocks of rows, in less memory: the weights are those of a run that
//! keeps everything, but for the order of sums over tokens.

use std::path::{Path, PathBuf};

use dqo_wgpu::device::Precision;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::model::golden;
use crate::plan::plan_of_tokens;
use crate::training::{devices, open, same_weights, tensors, train, with};

/// So wide that a block has 256 rows at most.
const INTERMEDIATE: usize = 1 << 15;
const HIDDEN: usize = 16;

/// A golden Llama's first layer, with a wide MLP of random weights.
fn wide_model(dir: &Path) -> PathBuf {
    let source = golden("dqo/llama/policy");
    let model = dir.join("model");
    std::fs::create_dir_all(&model).unwrap();
    let mut config: Value = serde_json::from_slice(&std::fs::read(source.join("config.json")).unwrap()).unwrap();
    config["intermediate_size"] = INTERMEDIATE.into();
    config["num_hidden_layers"] = 1.into();
    std::fs::write(model.join("config.json"), config.to_string()).unwrap();

    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut random = |scale: f32| -> Vec<u8> {
        (0..INTERMEDIATE * HIDDEN).flat_map(|_| (scale * rng.random_range(-1.0f32..1.0)).to_le_bytes()).collect()
    };
    let bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let kept = file.tensors().into_iter().filter(|(name, _)| !name.contains(".mlp.") && !name.contains(".layers.1."));
    let kept: Vec<_> = kept.map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec())).collect();
    let wide = [("gate", 0.5), ("up", 0.5), ("down", 0.01)].map(|(part, scale)| {
        let shape = if part == "down" { [HIDDEN, INTERMEDIATE] } else { [INTERMEDIATE, HIDDEN] };
        (format!("model.layers.0.mlp.{part}_proj.weight"), shape.to_vec(), random(scale))
    });
    let all: Vec<_> = kept.into_iter().chain(wide).collect();
    let views = all.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    safetensors::serialize_to_file(views, None, &model.join("model.safetensors")).unwrap();
    model
}

/// Rows of 300 tokens together: a block of 192, and some of a second.
fn rows(dir: &Path) -> PathBuf {
    let ids = |count: usize, pitch: usize| (0..count).map(|i| i * pitch % 41).collect::<Vec<_>>();
    let row = |length: usize| json!({"prompt_ids": ids(9, 7), "completion_ids": ids(length - 9, 11), "reward": 1.0});
    let path = dir.join("rows.jsonl");
    std::fs::write(&path, [140, 160].map(|length| row(length).to_string()).join("\n")).unwrap();
    path
}

#[test]
fn blocks_of_rows_train_as_all_rows_do() {
    let dir = tempfile::tempdir().unwrap();
    let (model, rows) = (wide_model(dir.path()), rows(dir.path()));
    // One adapter is enough: what is new is in no kernel's variants. Adapters begin with a gradient of B alone.
    let whole = ("model.safetensors", json!({"max_steps": 1}));
    let adapters = ("adapter_model.safetensors", json!({"max_steps": 2, "lora_r": 4, "lora_dropout": 0.5}));
    for (device, dtype) in devices().into_iter().take(3) {
        for (part, options) in [whole.clone(), adapters.clone()] {
            let run = |checkpointing: bool| {
                let output = dir.path().join("run");
                let config = json!({
                    "method": "sft", "model": model, "data": rows, "output_dir": output, "save_steps": 0,
                    "optimizer": "sgd", "learning_rate": 1e-2, "dtype": dtype, "save_dtype": dtype,
                    "gradient_checkpointing": checkpointing,
                });
                let config = with(config, options.clone());
                let plan = open(&config, &device).plan().unwrap();
                let by_blocks = plan.buffers.iter().any(|buffer| buffer.name == "scratch/mlp_block/x");
                assert_eq!(by_blocks, checkpointing);
                train(config, &device);
                let weights = tensors(&output.join("final/policy").join(part));
                std::fs::remove_dir_all(&output).unwrap();
                weights.into_iter().collect::<Vec<_>>()
            };
            // What differs is the order of sums over 300 tokens and, by the tile, of the MLP's over 32768 terms of both signs.
            let tolerance = if device.precision() == Precision::F64 { 1e-12 } else { 1e-4 };
            let label = format!("{part} in {dtype:?} on {}", device.description());
            same_weights(&run(true), &run(false), tolerance, &label);
        }
    }
}

/// Of 1024 tokens of Gemma 7B a block has 256; attention's gradients are computed in the same room.
#[test]
fn the_mlp_of_a_7b_model_works_in_a_fourth_of_the_room() {
    let plan = plan_of_tokens("gemma-1.1-7b-it", 1024);
    let bytes = |name: &str| plan.buffers.iter().find(|buffer| buffer.name == name).map(|buffer| buffer.bytes);
    for name in ["scratch/act", "scratch/layer/mlp/gate", "scratch/layer/mlp/up"] {
        assert_eq!(bytes(name), Some(256 * 24_576 * 4), "{name}");
    }
    assert_eq!(bytes("scratch/dq"), None);
}
