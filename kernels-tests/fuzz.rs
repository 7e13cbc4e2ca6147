//! Mutated input: whatever a file holds, reading it gives a result or an error: no panic, no hang, no memory without bound.
//! `DQO_FUZZ=COUNT` tries so many mutations in place of a few, `DQO_FUZZ_SEED` others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dqo_wgpu::data::{Examples, ProblemFile, RowFile, Text, Tokenizer};
use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::files::verify_dir;
use dqo_wgpu::grade::Task;
use dqo_wgpu::model::{Adapter, Build, Checkpoint, ModelConfig, Policy, Storage};
use dqo_wgpu::train::TrainSettings;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::model::golden;
use crate::whole_loop::asset;

/// A file that is mutated, and what reads it in a directory that has it and its neighbours.
struct Target {
    name: &'static str,
    /// The directories whose files are mutated; each has `file`.
    seeds: &'static [&'static str],
    file: &'static str,
    read: fn(&Path),
}

const TARGETS: &[Target] = &[
    Target { name: "rows", seeds: &["dqo/llama"], file: "rows.jsonl", read: read_rows },
    Target { name: "pairs", seeds: &["methods"], file: "pairs.jsonl", read: |dir| read_rows_in(dir, "pairs.jsonl") },
    Target { name: "problems", seeds: &["ppo"], file: "problems.jsonl", read: read_problems },
    Target {
        name: "config",
        seeds: &["models/llama3", "models/gemma", "models/qwen3"],
        file: "config.json",
        read: plan,
    },
    Target { name: "tokenizer", seeds: &["ppo/policy"], file: "tokenizer.json", read: tokenize },
    Target { name: "tokenizer config", seeds: &["ppo/policy"], file: "tokenizer_config.json", read: tokenize },
    Target { name: "template", seeds: &["demo"], file: "chat_template.jinja", read: tokenize },
    Target { name: "adapter config", seeds: &["lora/llama/policy"], file: "adapter_config.json", read: read_adapter },
    Target { name: "adapter", seeds: &["lora/llama/policy"], file: "adapter_model.safetensors", read: read_adapter },
    Target { name: "weights", seeds: &["models/llama"], file: "model.safetensors", read: read_weights },
    Target { name: "settings", seeds: &["settings"], file: "config.toml", read: read_settings },
    Target { name: "manifest", seeds: &["manifest"], file: "manifest.json", read: |dir| drop(verify_dir(dir)) },
];

fn read_rows(dir: &Path) {
    read_rows_in(dir, "rows.jsonl");
}

fn read_rows_in(dir: &Path, name: &str) {
    let Ok(file) = RowFile::read(&dir.join(name)) else { return };
    let model = golden("ppo/policy");
    let config = ModelConfig::read(&model).unwrap();
    let tokenizer = Tokenizer::read(&model, &config.eos_token_ids).unwrap();
    drop(Examples::build(&file, &tokenizer, config.limits(), 64));
}

fn read_problems(dir: &Path) {
    for task in [Task::Gsm8k, Task::Math, Task::None] {
        drop(ProblemFile::read(&dir.join("problems.jsonl"), task));
    }
}

/// The whole plan of a model.
fn plan(dir: &Path) {
    let Ok(config) = ModelConfig::read(dir) else { return };
    let device = Device::plan(&Device::cpu(Precision::F32));
    let build = Build::new(&device, &config, None, "policy", Storage { dtype: DType::Real, trainable: true });
    drop(Policy::load(&build, 64));
}

fn tokenize(dir: &Path) {
    let Ok(tokenizer) = Tokenizer::read(dir, &[]) else { return };
    let messages =
        vec![json!({ "role": "user", "content": "12+34=\n" }), json!({ "role": "assistant", "content": "" })];
    for text in [Text::Messages(messages), Text::Plain("12+34=".to_owned())] {
        if let Ok(ids) = tokenizer.prompt(&text) {
            drop(tokenizer.decode(&ids));
        }
    }
}

fn read_adapter(dir: &Path) {
    drop(Adapter::open(dir));
}

fn read_weights(dir: &Path) {
    let Ok(checkpoint) = Checkpoint::open(dir) else { return };
    for name in checkpoint.names() {
        if let Ok((shape, values)) = checkpoint.tensor(name) {
            let count = shape.iter().product::<usize>();
            assert!(values.range(0, count).all(|value| value.is_finite() || !value.is_finite()));
        }
    }
}

fn read_settings(dir: &Path) {
    let text = fs::read_to_string(dir.join("config.toml"));
    if let Some(table) = text.ok().and_then(|text| text.parse().ok()) {
        drop(TrainSettings::of_table(table));
    }
}

/// What takes a place, or is put in: numbers at the ends of their types, values of other types, text that is none.
const PIECES: &[&str] = &[
    "0",
    "-1",
    "1e308",
    "1e-320",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"x\"",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "\\u0000",
    "\u{feff}",
    "{{",
    "{% for i in range(1000000) %}",
    "[[[[[[[[",
    "\"rope_type\": \"llama3\",",
    "\n",
    "\"",
];

/// One to four edits.
fn mutate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(1..=4) {
        let length = bytes.len().max(1);
        let place = random.random_range(0..length).min(bytes.len());
        let end = (place + random.random_range(0..32)).min(bytes.len());
        match random.random_range(0..7) {
            0 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
            1 => bytes.truncate(place),
            2 => drop(bytes.drain(place..end)),
            3 => {
                let copy = bytes[place..end].to_vec();
                bytes.splice(end..end, copy);
            }
            4 => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                bytes.splice(place..place, piece.bytes());
            }
            5 if place < bytes.len() => bytes[place] = random.next_u32() as u8,
            // A number or a word becomes another.
            _ => {
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
                let start = bytes[..place].iter().rposition(|byte| !is_word(byte)).map_or(0, |before| before + 1);
                let end =
                    bytes[place..].iter().position(|byte| !is_word(byte)).map_or(bytes.len(), |after| place + after);
                let piece = PIECES[random.random_range(0..PIECES.len())];
                bytes.splice(start..end, piece.bytes());
            }
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// The directory that a seed names.
fn seed_dir(name: &str, root: &Path) -> PathBuf {
    let dir = root.join("seeds").join(name);
    match name {
        "demo" => return asset("model"),
        "settings" => {
            fs::create_dir_all(&dir).unwrap();
            let settings = "method = \"dqo\"\nmodel = \"m\"\ndata = \"d\"\noutput_dir = \"o\"\nbeta = 0.1\nbatch_size = 4\n\
                            lora_target_modules = [\"q_proj\"]\noptimizer = \"sgd\"\npolicy_is = true\n";
            fs::write(dir.join("config.toml"), settings).unwrap();
        }
        "manifest" => {
            let made = dqo_wgpu::files::write_dir(&dir, |dir| Ok(fs::write(dir.join("a"), "1")?));
            made.unwrap();
        }
        _ => return golden(name),
    }
    dir
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// The mutations of one process, which has little memory; the file `at` says which one it is at.
#[test]
#[ignore = "is started by the test below"]
fn worker() {
    let Ok(root) = std::env::var("DQO_FUZZ_ROOT") else { return };
    let root = PathBuf::from(root);
    let (seed, first, end) =
        (number_from("DQO_FUZZ_SEED", 1), number_from("DQO_FUZZ_FIRST", 0), number_from("DQO_FUZZ_END", 0));
    for index in first..end {
        let target = &TARGETS[index as usize % TARGETS.len()];
        let mut random = ChaCha8Rng::seed_from_u64(seed << 32 | index);
        let dir = root.join("case");
        let _ = fs::remove_dir_all(&dir);
        copy_files(&seed_dir(target.seeds[random.random_range(0..target.seeds.len())], &root), &dir);
        let path = dir.join(target.file);
        let mut bytes = fs::read(&path).unwrap();
        mutate(&mut bytes, &mut random);
        fs::write(&path, bytes).unwrap();
        fs::write(root.join("at"), format!("{index} {}", target.name)).unwrap();
        (target.read)(&dir);
    }
}

#[cfg(unix)]
#[test]
fn mutated_input_is_read_or_refused() {
    let count = number_from("DQO_FUZZ", 2400);
    // Of 1 GiB, and what the process has mapped before it reads anything.
    const MEMORY_KIB: u64 = (1 << 20) + (1 << 19);
    let root = tempfile::tempdir().unwrap();
    let at = root.path().join("at");
    let mut first = 0;
    let mut failed = Vec::new();
    while first < count {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "fuzz::worker", "--test-threads", "1"]);
        command.env("DQO_FUZZ_ROOT", root.path()).env("DQO_FUZZ_FIRST", first.to_string());
        command.env("DQO_FUZZ_END", count.to_string()).env("RAYON_NUM_THREADS", "1").env("RUST_BACKTRACE", "0");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let status = watched(&mut child, &at);
        let said = fs::read_to_string(&at).unwrap_or_default();
        match status {
            Some(true) => break,
            ended => {
                let kept = fs::read_dir(root.path().join("case")).unwrap().count();
                let how = if ended.is_none() { "hangs" } else { "panics, or takes too much memory" };
                failed.push(format!("{said}: {how} ({kept} files)"));
                first = said.split(' ').next().unwrap().parse::<u64>().unwrap() + 1;
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
}

/// Waits for a worker; whether it succeeded, and nothing where it was at one mutation for too long.
fn watched(child: &mut std::process::Child, at: &Path) -> Option<bool> {
    let (mut seen, mut since) = (String::new(), Instant::now());
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        let now = fs::read_to_string(at).unwrap_or_default();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        if since.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
