//! The model against transformers: log-probs and entropies of tiny random models of every family.
//! The goldens are made by tools/goldens/make.py.

use std::path::{Path, PathBuf};

use dqo_wgpu::data::{Examples, RowFile, Tokenizer};
use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::model::{Checkpoint, ModelConfig, Storage};
use dqo_wgpu::train::{Scorer, Scoring, Source, TokenLogps};
use serde_json::Value;

use crate::harness::gpus;

pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels-tests/goldens").join(path)
}

/// JSON objects, one a line.
pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The log-probs of a file's rows under a model.
pub fn score(model: &Path, rows: &Path, device: &Device, dtype: DType, budget: usize) -> Vec<TokenLogps> {
    let config = ModelConfig::read(model).unwrap();
    let tokenizer = Tokenizer::read(model, &config.eos_token_ids).unwrap();
    let examples =
        Examples::build(&RowFile::read(rows).unwrap(), &tokenizer, config.limits(), usize::MAX).unwrap().examples;
    let checkpoint = Checkpoint::open(model).unwrap();
    let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: None, base: None };
    let scoring = Scoring { storage: Storage::frozen(dtype), tokens_per_micro_batch: budget };
    let mut scorer = Scorer::new(device, source, "policy", scoring, &examples).unwrap();
    let mut all = Vec::new();
    scorer
        .score(&examples, |_, scored| {
            all.extend(scored);
            Ok(())
        })
        .unwrap();
    all
}

/// The largest difference of any log-prob or entropy.
pub fn largest_difference(scored: &[TokenLogps], expected: &[TokenLogps]) -> f64 {
    assert_eq!(scored.len(), expected.len());
    let pairs = scored.iter().zip(expected).flat_map(|(scored, expected)| {
        assert_eq!(scored.logps.len(), expected.logps.len());
        let logps = scored.logps.iter().zip(&expected.logps);
        logps.chain(scored.entropies.iter().zip(&expected.entropies))
    });
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// A model of every family, of every kind of layer and of every rotary scaling.
pub const FAMILIES: [&str; 12] = [
    "llama",
    "llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "mistral_window",
    "qwen2_window",
    "smollm3",
    "gemma3",
    "linear",
    "yarn",
];

#[test]
fn log_probs_are_those_of_transformers() {
    for family in FAMILIES {
        let model = golden("models").join(family);
        let expected: Vec<TokenLogps> = json_lines(&model.join("logps.jsonl"))
            .iter()
            .map(|row| TokenLogps { logps: floats(&row["logps"]), entropies: floats(&row["entropies"]) })
            .collect();
        let cpus = [Device::cpu(Precision::F64), Device::cpu(Precision::F32)];
        for device in cpus.iter().chain(gpus()) {
            // All in one micro-batch, a few together, each alone.
            for budget in [4096, 64, 1] {
                let scored = score(&model, &model.join("rows.jsonl"), device, DType::Real, budget);
                let difference = largest_difference(&scored, &expected);
                assert!(difference <= 2e-5, "{family} on {}: {difference:.1e}", device.description());
            }
        }
    }
}

#[test]
fn bf16_weights_are_the_same_model_rounded() {
    for family in FAMILIES {
        let model = golden("models").join(family);
        let rows = model.join("rows.jsonl");
        let reference = score(&model, &rows, &Device::cpu(Precision::F64), DType::Bf16, 4096);
        for device in gpus() {
            // Both round the same weights to bf16 and compute in full precision.
            let difference = largest_difference(&score(&model, &rows, device, DType::Bf16, 4096), &reference);
            assert!(difference <= 2e-5, "{family} on {}: {difference:.1e}", device.description());
        }
        // Rounding to 8 bits is a relative error of 2^-9 a weight: it shows, and it is small.
        let rounded =
            largest_difference(&reference, &score(&model, &rows, &Device::cpu(Precision::F64), DType::Real, 4096));
        assert!((1e-4..0.5).contains(&rounded), "{family}: {rounded:.1e}");
    }
}
