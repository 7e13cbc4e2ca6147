//! How a run's results are stored: as the model's files, or as `--save-dtype` says; checkpoints always as they are held.

use std::fs;
use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::command::{copy_of, error_of, stderr, train};
use crate::model::golden;

/// The golden model with all of its weights as `dtype`.
fn model_in(dtype: &str, dir: &Path) -> PathBuf {
    let whole = copy_of("ppo/policy", &dir.join(format!("model-{dtype}")));
    let path = whole.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let rounded: Vec<(String, Vec<u8>, Vec<usize>)> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            (name, floats(view.data()).flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(), view.shape().to_vec())
        })
        .collect();
    let views = rounded.iter().map(|(name, data, shape)| {
        (name, safetensors::tensor::TensorView::new(Dtype::BF16, shape.clone(), data).unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    whole
}

fn floats(data: &[u8]) -> impl Iterator<Item = f32> {
    data.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word))
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
    command
        .arg("--model")
        .arg(model_in("bf16", dir))
        .args(["--max-steps", "2", "--learning-rate", "1e-3"])
        .args(options);
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
        let rounded: Vec<u8> = floats(&held).flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect();
        assert_eq!(saved, rounded, "{network}");
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
        let mut command = train("ppo", &golden("ppo/round.jsonl"), &output);
        command.args(["--method", "sft", "--max-steps", "1", "--lora-r", "4", "--lora-target-modules", "all-linear"]);
        command.args(options);
        // `sft` has no value network; the helper's option is of another method.
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut command = crate::command::dqo();
        let place = arguments.iter().position(|argument| argument == "--value-model").unwrap();
        command.args(arguments[..place].iter().chain(&arguments[place + 2..]));
        let done = command.output().unwrap();
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
