//! Matrices in blocks against bitsandbytes and llama.cpp's Python package: what is stored, and what it stands for.
//! The goldens are made by tools/goldens/blocks.py.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use dqo_wgpu::device::{DType, Device, Precision, Tensor};
use dqo_wgpu::kernels::{Layout, Matmul, Operand, OperandMut, Product};
use half::f16;
use safetensors::SafeTensors;

use crate::command::{dqo, stderr};
use crate::harness::gpus;
use crate::model::{floats as json_floats, golden, json_lines};

const GOLDEN: &str = "blocks/blocks.safetensors";
/// Of a block on a device: values, then a scale.
const BLOCK_BYTES: usize = 36;

fn goldens() -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(golden(GOLDEN)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn stored(device: &Device, dtype: DType, values: &[f32]) -> Tensor {
    let mut tensor = device.tensor("matrix", &[values.len()], dtype).unwrap();
    tensor.write(0, values.iter().map(|&value| value.into())).unwrap();
    tensor
}

#[test]
fn blocks_stand_for_what_the_packages_say() {
    let goldens = goldens();
    let values = floats(&goldens["values"]);
    for device in [Device::cpu(Precision::F32), Device::cpu(Precision::F64)].iter().chain(gpus()) {
        for (name, dtype) in [("q8", DType::Q8), ("q4", DType::Q4)] {
            let tensor = stored(device, dtype, &values);
            let expected: Vec<f64> = floats(&goldens[name]).into_iter().map(f64::from).collect();
            assert!(tensor.read(values.len()).unwrap() == expected, "{name} on {}", device.description());
            let (first, last) = (&tensor.read(100).unwrap(), &expected[..100]);
            assert!(first == last, "{name}: the middle of a block on {}", device.description());
        }
    }
}

#[test]
fn blocks_hold_what_the_packages_store() {
    let goldens = goldens();
    let values = floats(&goldens["values"]);
    let cpu = Device::cpu(Precision::F32);

    let tensor = stored(&cpu, DType::Q4, &values);
    let blocks = tensor.read_bytes(values.len()).unwrap();
    let codes = blocks.chunks_exact(BLOCK_BYTES).flat_map(|block| &block[..32]);
    // There the first of two is in the upper half.
    let swapped: Vec<u8> = codes.map(|byte| byte.rotate_left(4)).collect();
    assert!(swapped == goldens["q4.packed"], "codes");
    let scales: Vec<u8> = blocks.chunks_exact(BLOCK_BYTES).flat_map(|block| block[32..].to_vec()).collect();
    assert!(scales == goldens["q4.scales"], "scales");

    let tensor = stored(&cpu, DType::Q8, &values);
    let as_gguf = |block: &[u8]| {
        let scale = f16::from_f32(floats(&block[32..])[0]);
        [&scale.to_le_bytes(), &block[..32]].concat()
    };
    let blocks: Vec<u8> =
        tensor.read_bytes(values.len()).unwrap().chunks_exact(BLOCK_BYTES).flat_map(as_gguf).collect();
    assert!(blocks == goldens["q8.blocks"], "Q8_0");
}

/// The types that files have, by the names of the goldens.
const OF_FILES: [(&str, DType); 4] =
    [("Q8_0", DType::Q8), ("Q4_0", DType::Q40), ("Q4_K", DType::Q4K), ("Q6_K", DType::Q6K)];

#[test]
fn blocks_of_files_stand_for_what_the_package_says() {
    let goldens = goldens();
    for device in [Device::cpu(Precision::F32), Device::cpu(Precision::F64)].iter().chain(gpus()) {
        for (name, dtype) in OF_FILES {
            let (raw, expected) = (&goldens[&format!("{name}.blocks")], floats(&goldens[name]));
            let (len, bytes) = (dtype.block_len(), dtype.file_block_bytes().unwrap());
            // The last block is not used to its end.
            let mut tensor = device.tensor("matrix", &[expected.len() - 4], dtype).unwrap();
            tensor.write_blocks(3 * len, &raw[3 * bytes..]).unwrap();
            tensor.write_blocks(0, &raw[..3 * bytes]).unwrap();
            for count in [tensor.len(), 2 * len + 20] {
                let bits: Vec<u32> =
                    tensor.read(count).unwrap().iter().map(|&value| (value as f32).to_bits()).collect();
                let expected: Vec<u32> = expected[..count].iter().map(|value| value.to_bits()).collect();
                assert!(bits == expected, "{name} on {}", device.description());
            }
        }
    }
}

#[test]
fn products_by_the_identity_are_the_values_themselves() {
    let goldens = goldens();
    for device in [Device::cpu(Precision::F32)].iter().chain(gpus()) {
        for (name, dtype) in OF_FILES {
            let (raw, expected) = (&goldens[&format!("{name}.blocks")], floats(&goldens[name]));
            let (rows, cols) = (4, expected.len() / 4);
            let mut matrix = device.tensor("matrix", &[rows, cols], dtype).unwrap();
            matrix.write_blocks(0, raw).unwrap();
            let mut identity = device.tensor("identity", &[rows, rows], DType::Real).unwrap();
            identity.write(0, (0..rows * rows).map(|i| f64::from(u8::from(i % (rows + 1) == 0)))).unwrap();
            let mut product = device.tensor("product", &[rows, cols], DType::Real).unwrap();
            let (a, b) = (Operand::whole(&identity, rows), Operand::whole(&matrix, cols));
            let c = OperandMut::whole(&mut product, cols);
            Matmul::run(device, Product { layout: Layout::Nn, rows, cols, inner: rows, a, b, c, accumulate: false });
            // One product of each sum is not 0, so nothing is rounded.
            let found = product.read(rows * cols).unwrap();
            assert!(
                found.iter().zip(&expected).all(|(a, &b)| *a == f64::from(b)),
                "{name} on {}",
                device.description()
            );
        }
    }
}

#[test]
#[should_panic(expected = "matrix: Q4K is read from files, and not made of values")]
fn values_are_not_made_into_blocks_of_files() {
    stored(&Device::cpu(Precision::F32), DType::Q4K, &[0.0; 256]);
}

/// A verb on the CPU device.
fn verb(name: &str) -> Command {
    let mut command = dqo();
    command.args([name, "--device", "cpu"]);
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
}

#[test]
fn every_verb_takes_a_base_in_blocks() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let problems = std::fs::read_to_string(demo.join("train.jsonl")).unwrap();
    let few: String = problems.lines().take(4).map(|line| format!("{line}\n")).collect();
    std::fs::write(path("problems.jsonl"), few).unwrap();
    let with_model = |name: &str, base: &str| {
        let mut command = verb(name);
        command.args(["--base", base, "--model"]).arg(demo.join("model"));
        command
    };
    for base in ["q8", "q4"] {
        let rollouts = path(&format!("rollouts-{base}.jsonl"));
        let mut sample = with_model("sample", base);
        sample.args(["--task", "gsm8k", "--num-samples", "4", "--max-new-tokens", "24", "--data"]);
        run(sample.arg(path("problems.jsonl")).arg("--output").arg(&rollouts));

        let output = path(base);
        let mut train = with_model("train", base);
        train.args(["--method", "dqo", "--lora-r", "4", "--learning-rate", "1e-3", "--batch-size", "8", "--data"]);
        run(train.arg(&rollouts).arg("--output-dir").arg(&output));
        let config = std::fs::read_to_string(output.join("config.toml")).unwrap();
        assert!(config.contains(&format!("base = \"{base}\"")), "{config}");

        // The adapters are taken for what they were trained over.
        let policy = output.join("final/policy");
        let mut eval = with_model("eval", base);
        eval.args(["--task", "gsm8k", "--max-new-tokens", "24", "--data"]).arg(path("problems.jsonl"));
        run(eval.arg("--adapter").arg(&policy));
        let mut values = verb("values");
        values.args(["--base", base, "--value"]).arg(demo.join("model")).arg("--data").arg(&rollouts);
        run(values.arg("--adapter").arg(output.join("final/value")).arg("--output").arg(path("values.jsonl")));
        let mut rewards = with_model("process-reward", base);
        rewards.args(["--task", "gsm8k", "--num-samples", "1", "--max-new-tokens", "8", "--data"]).arg(&rollouts);
        run(rewards.arg("--output").arg(path(&format!("scored-{base}.jsonl"))));

        // What the policy was sampled with is what its log-probs are computed with.
        let logps = path(&format!("logps-{base}.jsonl"));
        run(with_model("logp", base).arg("--data").arg(&rollouts).arg("--output").arg(&logps));
        for (row, scored) in json_lines(&rollouts).iter().zip(json_lines(&logps)) {
            let (sampled, scored) = (json_floats(&row["behavior_logps"]), json_floats(&scored["logps"]));
            let difference = sampled.iter().zip(&scored).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(difference <= 2e-5, "{base}: log-probs differ by {difference:.1e}");
        }
    }
}
