//! GGUF files: read as the Python package `gguf` and llama.cpp read them, and written so that they are the model they were.
//! The goldens are made by tools/goldens/gguf_files.py.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dqo_wgpu::data::{Text, Tokenizer};
use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::model::{
    Adapter, Build, Checkpoint, GgufType, ModelConfig, Policy, Storage, export_adapter, export_model, merge_adapter,
};
use serde_json::Value;

use crate::command::{copy_of, dqo, error_of};
use crate::harness::gpus;
use crate::model::{floats, golden, json_lines, score};
use crate::whole_loop::done;

const FILES: [&str; 3] = ["llama", "gemma3", "qwen2"];

fn file(name: &str) -> PathBuf {
    golden(&format!("gguf/{name}.gguf"))
}

fn expected(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(&format!("gguf/{name}.json"))).unwrap()).unwrap()
}

/// All values of a tensor.
fn values(checkpoint: &Checkpoint, name: &str) -> (Vec<usize>, Vec<f64>) {
    let (shape, values) = checkpoint.tensor(name).unwrap();
    (shape.to_vec(), values.range(0, shape.iter().product()).collect())
}

#[test]
fn values_are_those_of_the_package_to_the_bit() {
    let first = Checkpoint::open_file(&golden("gguf/first.safetensors")).unwrap();
    let mut compared = 0;
    for name in FILES {
        let checkpoint = Checkpoint::open(&file(name)).unwrap();
        for tensor in checkpoint.names() {
            let (_, expected) = values(&first, &format!("{name}.{tensor}"));
            let (_, values) = values(&checkpoint, tensor);
            assert!(values[..expected.len()] == expected, "{name}: {tensor}");
            // From any value on.
            let (_, stored) = checkpoint.tensor(tensor).unwrap();
            let (start, end) = (5.min(expected.len()), expected.len());
            let part: Vec<f64> = stored.range(start, end - start).collect();
            assert!(part == expected[start..], "{name}: {tensor} from {start}");
            compared += 1;
        }
    }
    assert_eq!(compared, first.names().count());
}

/// The rows of a golden file, for `score`.
fn rows(name: &str, dir: &Path) -> PathBuf {
    let path = dir.join("rows.jsonl");
    let golden = expected(name);
    let rows = golden["rows"].as_array().unwrap().iter().map(|row| {
        let ids = [&row["prompt_ids"], &row["completion_ids"]];
        format!("{{\"prompt_ids\": {}, \"completion_ids\": {}, \"reward\": 0}}\n", ids[0], ids[1])
    });
    std::fs::write(&path, rows.collect::<String>()).unwrap();
    path
}

/// The log-probs that `logp` writes.
fn logps(model: &Path, rows: &Path, dir: &Path, more: &[&str]) -> Vec<Vec<f64>> {
    let output = dir.join("logps.jsonl");
    let mut command = dqo();
    command.args(["logp", "--device", "cpu"]).arg("--model").arg(model).arg("--data").arg(rows).args(more);
    done(command.arg("--output").arg(&output));
    let logps = json_lines(&output).iter().map(|row| floats(&row["logps"])).collect();
    std::fs::remove_file(&output).unwrap();
    logps
}

fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b)
    });
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// As for models of other files: f32 sums in another order.
const TOLERANCE: f64 = 2e-5;
/// What blocks without kernels, and the embedding, lose where they are rounded to bf16: 2^-9 of a value.
const OF_BF16: f64 = 1e-2;

#[test]
fn log_probs_are_those_of_transformers() {
    for name in FILES {
        let dir = tempfile::tempdir().unwrap();
        let rows = rows(name, dir.path());
        let expected: Vec<_> =
            expected(name)["rows"].as_array().unwrap().iter().map(|row| floats(&row["logps"])).collect();
        let widened = distance(&logps(&file(name), &rows, dir.path(), &["--base", "f32"]), &expected);
        assert!(widened < TOLERANCE, "{name}: {widened}");
        let kept = distance(&logps(&file(name), &rows, dir.path(), &[]), &expected);
        assert!(kept < OF_BF16, "{name}: {kept}");
        // What is in no block is not rounded.
        assert!(name != "gemma3" || kept < TOLERANCE, "{name}: {kept}");
        let cpu: Vec<_> = score(&file(name), &rows, &Device::cpu(Precision::F32), DType::Real, 64)
            .into_iter()
            .map(|row| row.logps)
            .collect();
        for gpu in gpus() {
            let of_gpu = score(&file(name), &rows, gpu, DType::Real, 64).into_iter().map(|row| row.logps);
            let difference = distance(&of_gpu.collect::<Vec<_>>(), &cpu);
            assert!(difference < TOLERANCE, "{name} on {}: {difference}", gpu.description());
        }
    }
}

/// Blocks that kernels read stay as they are: the device holds the file's values, to the bit, in as many bits.
#[test]
fn blocks_stay() {
    let config = ModelConfig::read(&file("llama")).unwrap();
    let checkpoint = Checkpoint::open(&file("llama")).unwrap();
    let device = Device::cpu(Precision::F32);
    let storage = Storage::frozen(DType::Real);
    let mut types = BTreeMap::new();
    let mut policy = Policy::load(&Build::new(&device, &config, Some(&checkpoint), "policy", storage), 8).unwrap();
    for parameter in policy.parameters_mut() {
        let tensor = &parameter.shards()[0].weight;
        let held = tensor.read(parameter.len()).unwrap();
        let (_, of_file) = values(&checkpoint, parameter.name());
        let is_kept = tensor.dtype() != DType::Bf16;
        assert!(!is_kept || held == of_file, "{}", parameter.name());
        if parameter.rows() > 1 {
            *types.entry(format!("{:?}", tensor.dtype())).or_insert(0) += 1;
        }
    }
    // Of 21 matrices five, of Q4_1, Q5_0, Q5_1 and Q5_K, have no kernels, and three are in no blocks; the embedding is bf16.
    let expected = [("Bf16", 5 + 1), ("Q40", 4), ("Q4K", 4), ("Q6K", 2), ("Q8", 3), ("Real", 3)];
    let expected: BTreeMap<String, i32> = expected.map(|(name, count)| (name.to_owned(), count)).into();
    assert_eq!(types, expected);
    // A network that is trained has its values whole.
    let storage = Storage { trainable: true, ..storage };
    let mut policy = Policy::load(&Build::new(&device, &config, Some(&checkpoint), "policy", storage), 8).unwrap();
    for parameter in policy.parameters_mut() {
        let held = parameter.shards()[0].weight.read(parameter.len()).unwrap();
        assert!(held == values(&checkpoint, parameter.name()).1, "{}", parameter.name());
    }
}

#[test]
fn text_is_tokenized_as_llama_cpp_does() {
    for name in ["llama", "qwen2"] {
        let config = ModelConfig::read(&file(name)).unwrap();
        let tokenizer = Tokenizer::read(&file(name), &config.eos_token_ids).unwrap();
        for golden in expected(name)["texts"].as_array().unwrap() {
            let text = golden["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(golden["ids"].clone()).unwrap();
            assert_eq!(tokenizer.prompt(&Text::Plain(text.to_owned())).unwrap(), ids, "{name}: {text:?}");
            let is_plain = !text.contains('<');
            assert!(!is_plain || tokenizer.decode(&ids).unwrap().trim_start() == text.trim_start(), "{name}: {text:?}");
        }
    }
}

/// A configuration without what files say of themselves.
fn parsed(model: &Path) -> ModelConfig {
    ModelConfig { json: Default::default(), ..ModelConfig::read(model).unwrap() }
}

/// Every family that llama.cpp has as we do: written and read, it is the same model.
#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let of_goldens = ["llama", "llama3", "mistral", "qwen2", "qwen3", "gemma", "linear"];
    let models = of_goldens.map(|set| golden(&format!("dqo/{set}/policy"))).into_iter().chain(FILES.map(file));
    for (number, model) in models.enumerate() {
        let output = dir.path().join(format!("{number}.gguf"));
        export_model(&model, None, GgufType::F32, &output).unwrap();
        let (was, is) = (parsed(&model), parsed(&output));
        let was = ModelConfig { family: is.family, value_architecture: is.value_architecture, ..was };
        assert!(is.eos_token_ids.is_empty() || is.eos_token_ids == was.eos_token_ids, "{}", model.display());
        assert_eq!(ModelConfig { eos_token_ids: was.eos_token_ids.clone(), ..is }, was, "{}", model.display());
        let (before, after) = (Checkpoint::open(&model).unwrap(), Checkpoint::open(&output).unwrap());
        for name in after.names() {
            let ((shape, before), (read_shape, after)) = (values(&before, name), values(&after, name));
            assert_eq!(shape, read_shape);
            // A norm's 1 costs it bits.
            let tolerance = if was.norm_offset != 0.0 && shape.len() == 1 { 2e-7 } else { 0.0 };
            let difference = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(difference <= tolerance, "{}: {name}: {difference}", model.display());
        }
        assert_eq!(before.names().count(), after.names().count());
    }
}

/// Of a vocabulary too: what was read from a file and written again makes the same of text.
#[test]
fn a_vocabulary_is_written_as_it_was_read() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["llama", "qwen2"] {
        let output = dir.path().join(format!("{name}.gguf"));
        export_model(&file(name), None, GgufType::Q8_0, &output).unwrap();
        let config = ModelConfig::read(&output).unwrap();
        let (was, is) = (Tokenizer::read(&file(name), &[]).unwrap(), Tokenizer::read(&output, &[]).unwrap());
        assert_eq!(is.end_tokens(), was.end_tokens());
        for golden in expected(name)["texts"].as_array().unwrap() {
            let text = Text::Plain(golden["text"].as_str().unwrap().to_owned());
            assert_eq!(is.prompt(&text).unwrap(), was.prompt(&text).unwrap(), "{name}: {text:?}");
        }
        let messages = vec![serde_json::json!({"role": "user", "content": "the cat"})];
        let prompt = |tokenizer: &Tokenizer| tokenizer.prompt(&Text::Messages(messages.clone())).unwrap();
        assert_eq!(prompt(&is), prompt(&was));
        assert_eq!(config.vocab_size, ModelConfig::read(&file(name)).unwrap().vocab_size);
    }
}

/// The adapters of a golden set merged, in a directory and in a file; and alone, in llama.cpp's order of rows.
#[test]
fn adapters_are_written_merged_and_alone() {
    let dir = tempfile::tempdir().unwrap();
    for set in ["llama", "qwen2"] {
        let (model, path) = (golden(&format!("lora/{set}/model")), golden(&format!("lora/{set}/policy")));
        let adapter = Adapter::open(&path).unwrap();
        let (merged, file) = (dir.path().join(set), dir.path().join(format!("{set}.gguf")));
        std::fs::create_dir(&merged).unwrap();
        merge_adapter(&model, &adapter, None, &merged).unwrap();
        export_model(&model, Some(&adapter), GgufType::F32, &file).unwrap();
        let (in_directory, in_file) = (Checkpoint::open(&merged).unwrap(), Checkpoint::open(&file).unwrap());
        for name in in_file.names() {
            assert_eq!(values(&in_directory, name), values(&in_file, name), "{set}: {name}");
        }
        let alone = dir.path().join(format!("{set}-adapter.gguf"));
        export_adapter(&model, &adapter, &alone).unwrap();
        check_adapter(&alone, &path, set == "llama", ModelConfig::read(&model).unwrap().heads.head_dim);
    }
}

/// llama.cpp's names and order, by the description of the format and not by our reader.
fn check_adapter(alone: &Path, peft: &Path, turns_neighbours: bool, head_dim: usize) {
    let file = std::fs::File::open(alone).unwrap();
    let mut reader = gguf_rs_lib::reader::GGUFFileReader::new(file).unwrap();
    let text = |key: &str| reader.metadata().get(key).unwrap().as_str().unwrap().to_owned();
    assert_eq!((text("general.type"), text("adapter.type")), ("adapter".to_owned(), "lora".to_owned()));
    let alpha = reader.metadata().get("adapter.lora.alpha").unwrap().as_f64().unwrap();
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(peft.join("adapter_config.json")).unwrap()).unwrap();
    // llama.cpp divides by the rank, whatever PEFT divides by.
    let rank = config["r"].as_f64().unwrap();
    let of_rslora = if config["use_rslora"] == true { rank.sqrt() } else { 1.0 };
    assert_eq!(alpha, config["lora_alpha"].as_f64().unwrap() * of_rslora);
    let weights = Checkpoint::open_file(&peft.join("adapter_model.safetensors")).unwrap();
    assert_eq!(reader.tensor_count(), weights.names().count());
    for name in weights.names() {
        let parts: Vec<&str> = name.strip_prefix("base_model.model.model.layers.").unwrap().split('.').collect();
        let [layer, _, module, matrix, _] = parts[..] else { panic!("{name}") };
        let theirs = match module {
            "q_proj" => "attn_q",
            "k_proj" => "attn_k",
            "v_proj" => "attn_v",
            "o_proj" => "attn_output",
            "gate_proj" => "ffn_gate",
            "up_proj" => "ffn_up",
            "down_proj" => "ffn_down",
            _ => panic!("{name}"),
        };
        let letter = if matrix == "lora_A" { "a" } else { "b" };
        let theirs = format!("blk.{layer}.{theirs}.weight.lora_{letter}");
        let data = reader.load_tensor_data(&theirs).unwrap().unwrap_or_else(|| panic!("{theirs} is missing"));
        let written: Vec<f32> = bytemuck::pod_collect_to_vec(data.try_as_slice().unwrap());
        let (shape, mut expected) = values(&weights, name);
        if letter == "b" && turns_neighbours && ["q_proj", "k_proj"].contains(&module) {
            let rows: Vec<&[f64]> = expected.chunks(shape[1]).collect();
            let head = |head: &[&[f64]]| {
                let (first, second) = head.split_at(head_dim / 2);
                first
                    .iter()
                    .zip(second)
                    .flat_map(|(first, second)| [first.to_vec(), second.to_vec()])
                    .flatten()
                    .collect::<Vec<_>>()
            };
            expected = rows.chunks(head_dim).flat_map(head).collect();
        }
        assert!(written.iter().map(|&value| f64::from(value)).eq(expected), "{theirs}");
    }
}

/// The whole way of a user: adapters over a file, resumed, then a file of both.
#[test]
fn a_file_is_trained_over_and_becomes_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    let row = |text: &str, reward: usize| {
        format!("{{\"prompt\": \"the cat\", \"completion\": \"{text}\", \"reward\": {reward}}}\n")
    };
    std::fs::write(&rows, row("sat on the mat", 1) + &row("12 + 34", 0) + &row("the cat", 1) + &row("stop", 0))
        .unwrap();
    let out = dir.path().join("out");
    let train = |more: &[&str]| {
        let mut command = dqo();
        command.args(["train", "--method", "dqo", "--device", "cpu", "--lora-r", "4", "--learning-rate", "1e-2"]);
        command.args(["--batch-size", "2", "--max-steps", "4", "--save-steps", "2"]).args(more);
        command.arg("--model").arg(file("llama")).arg("--data").arg(&rows).arg("--output-dir").arg(&out);
        command
    };
    done(&mut train(&[]));
    let adapter = out.join("final/policy");
    let merged = dir.path().join("merged.gguf");
    let mut merge = dqo();
    merge.args(["merge", "--gguf", "f32"]).arg("--model").arg(file("llama")).arg("--adapter").arg(&adapter);
    done(merge.arg("--output").arg(&merged));
    let over = logps(&file("llama"), &rows, dir.path(), &["--base", "f32", "--adapter", adapter.to_str().unwrap()]);
    let difference = distance(&over, &logps(&merged, &rows, dir.path(), &[]));
    assert!(difference < TOLERANCE, "{difference}");
    let before = logps(&file("llama"), &rows, dir.path(), &["--base", "f32"]);
    assert!(distance(&over, &before) > 1e-2, "the adapters have learned nothing");
    let whole = dir.path().join("whole");
    let mut train = dqo();
    train.args(["train", "--method", "sft", "--device", "cpu", "--max-steps", "1", "--learning-rate", "0"]);
    train.arg("--model").arg(file("llama")).arg("--data").arg(&rows).arg("--output-dir").arg(&whole);
    done(&mut train);
    // Of blocks, what is trained whole is saved as bf16, with the tokenizer that the file has.
    let policy = whole.join("final/policy");
    assert!(distance(&before, &logps(&policy, &rows, dir.path(), &[])) < OF_BF16);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(file("qwen2")).unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut command = dqo();
        command.args(["generate", "--device", "cpu", "--prompt", "x", "--model"]).arg(&path);
        let message = error_of(&mut command).replace(&format!("{}/", dir.path().display()), "");
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    };
    /// A text in place of another of the same length, everywhere.
    fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let mut bytes = bytes.to_vec();
        let places: Vec<_> =
            (0..=bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
        assert!(!places.is_empty(), "{from}");
        places.iter().for_each(|&at| bytes[at..at + to.len()].copy_from_slice(to.as_bytes()));
        bytes
    }
    for (name, bytes, message) in [
        ("cut.gguf", whole[..whole.len() / 2].to_vec(), "cut.gguf: not a whole GGUF file of version 3"),
        ("empty.gguf", Vec::new(), "empty.gguf: not a whole GGUF file of version 3"),
        (
            "family.gguf",
            edited(&whole, "qwen2", "mamba"),
            "family.gguf: general.architecture \"mamba\" is not supported; supported are llama, smollm3, qwen2, qwen3, gemma, gemma3",
        ),
        (
            "split.gguf",
            edited(&whole, "tokenizer.ggml.pre", "tokenizer.ggml.pro"),
            "split.gguf: tokenizer.ggml.pre is missing",
        ),
        (
            "key.gguf",
            edited(&whole, "qwen2.block_count", "qwen2.black_count"),
            "key.gguf: qwen2.black_count is not supported; use a model without it",
        ),
        (
            "tensor.gguf",
            edited(&whole, "blk.0.ffn_gate", "blk.0.ffn_gaze"),
            "tensor.gguf: blk.0.ffn_gaze.weight is not a tensor of a qwen2 model",
        ),
        (
            "missing.gguf",
            edited(&whole, "token_embd.weight", "token_embc.weight"),
            "missing.gguf: token_embd.weight is missing",
        ),
    ] {
        let refusal = refused(name, &bytes);
        assert!(refusal.starts_with(message), "{refusal}");
    }
    let mut absent = dqo();
    absent.args(["generate", "--device", "cpu", "--prompt", "x", "--model", "absent.gguf"]);
    assert_eq!(error_of(&mut absent), "absent.gguf: there is no such file");
}

#[test]
fn what_gguf_has_no_words_for_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let export = |model: &Path, name: &str| {
        let mut command = dqo();
        command.arg("export").arg("--model").arg(model).arg("--output").arg(dir.path().join(name));
        error_of(&mut command)
    };
    for (set, message) in [
        ("mistral_window", "layer 0 slides a window, or rotates, otherwise than in llama.cpp's llama"),
        ("gemma3", "layer 1 slides a window, or rotates, otherwise than in llama.cpp's gemma3"),
    ] {
        let model = golden(&format!("dqo/{set}/policy"));
        assert_eq!(export(&model, "x.gguf"), format!("{}: {message}", model.join("config.json").display()));
    }
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    let message = export(&demo, "x.gguf");
    assert!(
        message.ends_with("tokenizer.json: its normalizer and pre_tokenizer are not among those that GGUF files name"),
        "{message}"
    );
    assert!(export(&file("llama"), "x").ends_with("x: does not end in .gguf; choose another --output"));
    let value = copy_of("lora/llama/value", &dir.path().join("value"));
    let mut command = dqo();
    command.arg("export").arg("--model").arg(golden("lora/llama/model")).arg("--adapter").arg(&value);
    let message = error_of(command.arg("--output").arg(dir.path().join("x.gguf")));
    assert!(message.contains("is a value network's"), "{message}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");
}
