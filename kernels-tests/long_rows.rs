//! Rows of many thousands of tokens: what they take grows with their length, not with its square, and what is computed of them is
//! right to the last token.

use std::path::Path;

use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::model::WeightType;
use serde_json::{Value, json};

use crate::model::golden;
use crate::plan::plan_of_tokens;
use crate::training::{tensors, train, with};

#[test]
fn a_plan_grows_linearly_with_the_length_of_a_row() {
    let [short, medium, long] =
        [8192, 16_384, 32_768].map(|tokens| plan_of_tokens("qwen2-7b", tokens).peak_bytes as f64);
    let growth = (long - medium) / (medium - short);
    assert!((1.99..2.01).contains(&growth), "{short}, {medium}, {long}");
}

/// A golden model that takes longer sequences than it says.
fn long_model(family: &str, dir: &Path) -> String {
    let source = golden("dqo").join(family).join("policy");
    let model = dir.join("model");
    std::fs::create_dir_all(&model).unwrap();
    std::fs::copy(source.join("model.safetensors"), model.join("model.safetensors")).unwrap();
    let mut json: Value = serde_json::from_slice(&std::fs::read(source.join("config.json")).unwrap()).unwrap();
    json["max_position_embeddings"] = 32_768.into();
    std::fs::write(model.join("config.json"), json.to_string()).unwrap();
    model.display().to_string()
}

/// A step of SFT over a row of 16384 tokens, in f32 and in f64: attention that sees all of it, and a window.
#[test]
fn a_row_of_16k_tokens_is_trained() {
    const TOKENS: usize = 16_384;
    for family in ["switches", "mistral_window"] {
        let dir = tempfile::tempdir().unwrap();
        let model = long_model(family, dir.path());
        let ids = |count: usize, pitch: usize| (0..count).map(|i| i * pitch % 41).collect::<Vec<_>>();
        let row = json!({"prompt_ids": ids(TOKENS / 2, 7), "completion_ids": ids(TOKENS / 2, 11), "reward": 1.0});
        let rows = dir.path().join("rows.jsonl");
        std::fs::write(&rows, row.to_string()).unwrap();
        let run = |precision: Precision, dtype: WeightType| {
            let output = dir.path().join(format!("{dtype:?}"));
            let config = json!({
                "method": "sft", "model": model, "data": rows, "output_dir": output, "max_steps": 1, "learning_rate": 1e-3,
                "max_length": TOKENS, "gradient_checkpointing": true, "dtype": dtype, "optimizer": "sgd", "save_steps": 0,
            });
            let metrics = train(with(config, json!({})), &Device::cpu(precision));
            (metrics[0].clone(), tensors(&output.join("final/policy/model.safetensors")))
        };
        let (metrics, weights) = run(Precision::F32, WeightType::F32);
        let (expected, expected_weights) = run(Precision::F64, WeightType::F64);
        for name in ["loss", "grad_norm"] {
            let [found, expected] = [&metrics, &expected].map(|row| row[name].as_f64().unwrap());
            // Sums over 8192 positions in f32; the angles of late positions are rounded alike in both.
            assert!((found - expected).abs() <= 1e-4 * expected.abs(), "{family}: {name} {found}, not {expected}");
        }
        for (name, expected) in expected_weights {
            let largest = expected.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            let off = weights[&name].iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off <= 1e-5 * largest, "{family}: {name} is off by {off:.1e} of {largest}");
        }
    }
}
