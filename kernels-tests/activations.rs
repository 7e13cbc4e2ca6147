//! Activations that are kept in bf16: the forward pass is the same to the bit, gradients are near those of f32, and a run repeats.

use std::fs;
use std::path::Path;

use dqo_wgpu::device::Device;
use dqo_wgpu::model::{ActivationType, WeightType};
use dqo_wgpu::train::OptimizerType;
use serde_json::{Value, json};

use crate::command::{error_of, train as command};
use crate::model::{FAMILIES, golden};
use crate::training::{config, devices, tensors, train, with};

/// The gradients that a run's weights have changed by, by name.
type Gradients = Vec<(String, Vec<f64>)>;

/// A step of `--optimizer sgd --learning-rate 1` on a family's golden rows: its row of metrics, and its gradients.
fn step(
    family: &str,
    (device, dtype): &(Device, WeightType),
    activations: ActivationType,
    checkpointing: bool,
) -> (Value, Gradients) {
    let (set, output) = (golden("dqo").join(family), tempfile::tempdir().unwrap());
    let config = with(
        config(&set, "rows.jsonl", output.path()),
        json!({
            "ref_model": set.join("reference"), "optimizer": OptimizerType::Sgd, "learning_rate": 1.0, "max_grad_norm": 0.0,
            "max_steps": 1, "dtype": dtype, "activations": activations, "gradient_checkpointing": checkpointing,
        }),
    );
    let metrics = train(config, device).remove(0);
    let gradients = ["policy", "value"].iter().flat_map(|part| {
        let file = |dir: &Path| tensors(&dir.join(part).join("model.safetensors"));
        let (before, after) = (file(&set), file(&output.path().join("final")));
        let change = move |(name, after): (String, Vec<f64>)| {
            let gradient = before[&name].iter().zip(after).map(|(before, after)| before - after).collect();
            (format!("{part}.{name}"), gradient)
        };
        after.into_iter().map(change)
    });
    (metrics, gradients.collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What a step reports before it has gradients.
fn forward(metrics: &Value) -> Value {
    let mut row = metrics.as_object().unwrap().clone();
    row.retain(|name, _| {
        !["grad_norm", "seconds", "tokens_per_second", "peak_memory_bytes"].iter().any(|end| name.ends_with(end))
    });
    row.into()
}

/// How far gradients are from others: the whole one relatively, and the least cosine of a weight's. A gradient that is 0 but for
/// rounding (a bias on the keys changes no softmax) has no direction.
fn difference(found: &Gradients, expected: &Gradients) -> (f64, f64) {
    let whole: f64 = expected.iter().map(|(_, gradient)| dot(gradient, gradient)).sum();
    let (mut off, mut least) = (0.0, 1.0f64);
    for ((_, found), (_, expected)) in found.iter().zip(expected) {
        let difference: Vec<f64> = expected.iter().zip(found).map(|(a, b)| a - b).collect();
        off += dot(&difference, &difference);
        let size = dot(expected, expected);
        if size > 1e-6 * whole {
            least = least.min(dot(expected, found) / (size * dot(found, found)).sqrt());
        }
    }
    ((off / whole).sqrt(), least)
}

/// What is rounded to the 8 bits of bf16 is off by 2^-9 at most, by 1e-3 of its size on average. A gradient comes of products of
/// some such values, layer upon layer: these random models make up to ten times that of it, others may make somewhat more.
#[test]
fn gradients_of_rounded_activations_are_near() {
    let (devices, mut most, mut least) = (devices(), [0.0f64; 2], [1.0f64; 2]);
    for (number, family) in FAMILIES.iter().enumerate() {
        // The CPU in f32 takes every family, each other device one.
        for device in devices.iter().skip(number).take(1).chain([&devices[1]]) {
            let (expected_metrics, expected) = step(family, device, ActivationType::F32, false);
            for checkpointing in [true, false] {
                let label = format!("{family} on {}, checkpointing {checkpointing}", device.0.description());
                let (metrics, found) = step(family, device, ActivationType::Bf16, checkpointing);
                assert_eq!(forward(&metrics), forward(&expected_metrics), "{label}");
                let (off, cosine) = difference(&found, &expected);
                assert!(off > 1e-4, "{label}: nothing was rounded");
                assert!(off <= 0.02, "{label}: the gradient is off by {off:.1e}");
                assert!(cosine >= 0.998, "{label}: a weight's gradient has the cosine {cosine}");
                let case = usize::from(checkpointing);
                (most[case], least[case]) = (most[case].max(off), least[case].min(cosine));
            }
        }
    }
    for (case, name) in ["everything kept", "with checkpointing"].iter().enumerate() {
        println!("{name}: off by {:.2e} at most, cosines from {:.5} on", most[case], least[case]);
    }
}

#[test]
fn a_run_with_rounded_activations_repeats_and_goes_on_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let run = |output: &str, more: &[&str]| {
        let mut command = command("dqo/qwen3", &golden("dqo/qwen3/rows.jsonl"), &dir.path().join(output));
        command.args(["--activations", "bf16", "--learning-rate", "1e-3", "--tokens-per-micro-batch", "24"]).args(more);
        command
    };
    let done = |output: &str, more: &[&str]| assert!(run(output, more).output().unwrap().status.success());
    let result = |output: &str| {
        let files = ["final/policy/model.safetensors", "final/value/model.safetensors"];
        files.map(|file| fs::read(dir.path().join(output).join(file)).unwrap())
    };
    for (checkpointing, other) in [("true", "false"), ("false", "true")] {
        let name = |run: &str| format!("{run}-{checkpointing}");
        let (whole, again, cut) = (name("whole"), name("again"), name("cut"));
        let kept = ["--gradient-checkpointing", checkpointing];
        done(&whole, &[&kept[..], &["--max-steps", "6"]].concat());
        done(&again, &[&kept[..], &["--max-steps", "6"]].concat());
        done(&cut, &[&kept[..], &["--max-steps", "3"]].concat());
        let settings = fs::read_to_string(dir.path().join(&cut).join("config.toml")).unwrap();
        assert!(settings.contains("activations = \"bf16\""), "{settings}");
        // What is computed again is not what was kept: here it changes the run.
        let changed = ["--gradient-checkpointing", other, "--max-steps", "6", "--resume"];
        let error = error_of(&mut run(&cut, &changed));
        assert!(error.starts_with("--resume: --gradient-checkpointing is "), "{error}");
        done(&cut, &[&kept[..], &["--max-steps", "6", "--resume"]].concat());
        assert!(result(&whole) == result(&again), "the same run again, checkpointing {checkpointing}");
        assert!(result(&whole) == result(&cut), "a run that was cut, checkpointing {checkpointing}");
    }
}
