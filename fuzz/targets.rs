//! What reads a file that others have written, each with files to begin from.

use std::fs;
use std::path::{Path, PathBuf};

use dqo_wgpu::data::{Columns, Examples, ProblemFile, RowFile, Text, Tokenizer};
use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::files::{verify_dir, write_dir};
use dqo_wgpu::grade::Task;
use dqo_wgpu::model::{Adapter, Build, Checkpoint, ModelConfig, Policy, Storage};
use dqo_wgpu::train::TrainSettings;
use serde_json::json;

/// A file, and what reads it in a directory that has it and its neighbours.
pub struct Target {
    pub name: &'static str,
    pub file: &'static str,
    /// Directories that have the file, in the repository; none where it is written by [`Target::fill`] itself.
    pub seeds: &'static [&'static str],
    pub read: fn(&Path),
}

const fn target(name: &'static str, file: &'static str, seeds: &'static [&'static str], read: fn(&Path)) -> Target {
    Target { name, file, seeds, read }
}

pub const TARGETS: &[Target] = &[
    target("rows", "rows.jsonl", &["kernels-tests/goldens/dqo/llama"], |dir| read_rows(&dir.join("rows.jsonl"))),
    target("pairs", "pairs.jsonl", &["kernels-tests/goldens/methods"], |dir| read_rows(&dir.join("pairs.jsonl"))),
    target("parquet", "rollouts.parquet", &["kernels-tests/goldens/parquet"], |dir| {
        read_rows(&dir.join("rollouts.parquet"))
    }),
    target("problems", "problems.jsonl", &["kernels-tests/goldens/ppo"], read_problems),
    target(
        "config",
        "config.json",
        &[
            "kernels-tests/goldens/models/llama3",
            "kernels-tests/goldens/models/gemma",
            "kernels-tests/goldens/models/qwen3",
        ],
        plan,
    ),
    target("tokenizer", "tokenizer.json", &[POLICY], tokenize),
    target("tokenizer_config", "tokenizer_config.json", &[POLICY], tokenize),
    target("template", "chat_template.jinja", &["assets/demo/model"], tokenize),
    target("adapter_config", "adapter_config.json", &[ADAPTER], read_adapter),
    target("adapter", "adapter_model.safetensors", &[ADAPTER], read_adapter),
    target("weights", "model.safetensors", &["kernels-tests/goldens/models/llama"], read_weights),
    target("gguf", "qwen2.gguf", &[GGUF], |dir| read_gguf(&dir.join("qwen2.gguf"))),
    target("gguf_blocks", "llama.gguf", &[GGUF], |dir| read_gguf(&dir.join("llama.gguf"))),
    target("settings", "config.toml", &[], read_settings),
    target("manifest", "manifest.json", &[], |dir| drop(verify_dir(dir))),
];

const POLICY: &str = "kernels-tests/goldens/ppo/policy";
const ADAPTER: &str = "kernels-tests/goldens/lora/llama/policy";

const GGUF: &str = "kernels-tests/goldens/gguf";

const SETTINGS: &str = r#"
method = "dqo"
model = "m"
data = "d"
output_dir = "o"
beta = 0.1
batch_size = 4
lora_target_modules = ["q_proj"]
optimizer = "sgd"
policy_is = true
"#;

impl Target {
    /// Makes `dir` with the file and its neighbours, from the seed of this number.
    pub fn fill(&self, dir: &Path, seed: usize) {
        if let Some(seed) = self.seeds.get(seed) {
            fs::create_dir_all(dir).unwrap();
            let entries = fs::read_dir(repository().join(seed)).unwrap().map(|entry| entry.unwrap().path());
            for path in entries.filter(|path| path.is_file()) {
                fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
            }
            return;
        }
        let made = write_dir(dir, |dir| Ok(fs::write(dir.join("config.toml"), SETTINGS)?));
        made.unwrap();
    }
}

/// The directory of this repository.
fn repository() -> PathBuf {
    let of_crate = Path::new(env!("CARGO_MANIFEST_DIR"));
    of_crate.ancestors().find(|dir| dir.join("kernels-tests").is_dir()).unwrap().to_owned()
}

fn read_rows(path: &Path) {
    let Ok(file) = RowFile::read(path) else { return };
    let model = repository().join(POLICY);
    let config = ModelConfig::read(&model).unwrap();
    let tokenizer = Tokenizer::read(&model, &config.eos_token_ids).unwrap();
    drop(Examples::build(&file, &tokenizer, config.limits(), 64));
}

fn read_problems(dir: &Path) {
    for task in [Task::Gsm8k, Task::Math, Task::None] {
        drop(ProblemFile::read(&dir.join("problems.jsonl"), &Columns::default(), task));
    }
}

/// The whole plan of a model.
fn plan(dir: &Path) {
    let Ok(config) = ModelConfig::read(dir) else { return };
    let device = Device::plan(&Device::cpu(Precision::F32));
    let build = Build::new(&device, &config, None, "policy", Storage::trained(DType::Real));
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
            assert_eq!(values.range(0, count).count(), count);
        }
    }
}

/// All that a GGUF file says and has.
fn read_gguf(path: &Path) {
    plan(path);
    tokenize(path);
    read_weights(path);
}

fn read_settings(dir: &Path) {
    let text = fs::read_to_string(dir.join("config.toml"));
    if let Some(table) = text.ok().and_then(|text| text.parse().ok()) {
        drop(TrainSettings::of_table(table));
    }
}
