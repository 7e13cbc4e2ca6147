//! How a run's results are stored: as the model's files, or as `--save-dtype` says; checkpoints always as they are held.

use std::fs;
use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::command::{copy_of, dqo, error_of, stderr, train};
use crate::model::golden;

/// The golden model with all of its weights in bf16.
fn bf16_model(dir: &Path) -> PathBuf {
    let whole = copy_of("ppo/policy", &dir.join("model"));
    let path = whole.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors();
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, view)| rounded(view.data())).collect();
    let views = tensors.iter().zip(&data).map(|((name, view), data)| {
        (name, safetensors::tensor::TensorView::new(Dtype::BF16, view.shape().to_vec(), data).unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    whole
}

/// Weights in f32, rounded to bf16.
fn rounded(data: &[u8]) -> Vec<u8> {
    let floats = data.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word));
    floats.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect()
}

/// The type of every tensor, and the weights themselves, in order.
fn stored(network: &Path) -> (Vec<Dtype>, Vec<u8>) {
    let bytes = fs::read(network.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = file.tensors();
    tensors.sort_by(|(left, _), (right, _)| left.cmp(right));
    let data = tensors.iter().flat_map(|(_, view)| view.data().to_vec()).collect();
    (tensors.iter().map(|(_, view)| view.dtype()).collect(), data)
}

fn config_dtype(network: &Path) -> String {
    let text = fs::read_to_string(network.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    config.get("dtype").or(config.get("torch_dtype")).and_then(Value::as_str).unwrap().to_owned()
}

/// A run's directory, of a bf16 model.
fn run(dir: &Path, name: &str, options: &[&str]) -> PathBuf {
    let output = dir.join(name);
    let mut command = train("ppo", &golden("ppo/round.jsonl"), &output);
    command.arg("--model").arg(bf16_model(dir)).args(["--max-steps", "2", "--learning-rate", "1e-3"]).args(options);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    output
}

#[test]
fn results_are_stored_as_the_models_files_are() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "out", &[]);
    for network in ["policy", "value"] {
        let (types, held) = stored(&output.join("checkpoint-000002").join(network));
        assert!(types.iter().all(|dtype| *dtype == Dtype::F32), "{network}: a checkpoint goes on to the bit");
        let (types, saved) = stored(&output.join("final").join(network));
        assert!(types.iter().all(|dtype| *dtype == Dtype::BF16), "{network}: {types:?}");
        assert_eq!(saved, rounded(&held), "{network}");
        assert_eq!(config_dtype(&output.join("final").join(network)), "bfloat16");
    }
}

#[test]
fn save_dtype_says_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "out", &["--save-dtype", "f32"]);
    for network in ["policy", "value"] {
        let held = stored(&output.join("checkpoint-000002").join(network));
        assert_eq!(stored(&output.join("final").join(network)), held, "{network}");
        assert_eq!(config_dtype(&output.join("final").join(network)), "float32");
    }
}

#[test]
fn adapters_stay_in_f32_unless_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for (name, options, expected) in
        [("plain", &[][..], Dtype::F32), ("rounded", &["--save-dtype", "bf16"][..], Dtype::BF16)]
    {
        let output = dir.path().join(name);
        let mut command = dqo();
        command.args(["train", "--method", "sft", "--device", "cpu", "--batch-size", "4", "--max-steps", "1"]);
        command.args(["--lora-r", "4", "--lora-target-modules", "all-linear"]).args(options);
        command.arg("--model").arg(golden("ppo/policy")).arg("--data").arg(golden("ppo/round.jsonl"));
        let done = command.arg("--output-dir").arg(&output).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        let bytes = fs::read(output.join("final/policy/adapter_model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert!(file.tensors().iter().all(|(_, view)| view.dtype() == expected), "{name}");
        let config = fs::read_to_string(output.join("final/policy/adapter_config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["target_modules"].as_array().unwrap().len(), 7, "all-linear: {config}");
    }
    let output = dir.path().join("f16");
    let mut command = train("ppo", &golden("ppo/round.jsonl"), &output);
    command.args(["--lora-target-modules", "all-linear"]);
    assert!(error_of(&mut command).contains("--lora-target-modules goes with --lora-r"), "named without --lora-r");
}
