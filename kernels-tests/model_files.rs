//! Files of a model or an adapter that are taken wrongly by others: each is refused in one line, at once, or read as
//! transformers reads it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command::{copy_of, dqo, error_of};
use crate::model::json_lines;
use crate::whole_loop::{done, model_in};

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// `sample` of two responses to one raw prompt.
fn sample(dir: &Path, model: &Path, prompt: &str) -> Command {
    let data = dir.join("problems.jsonl");
    fs::write(&data, json!({ "prompt": prompt }).to_string()).unwrap();
    let mut command = dqo();
    command.args(["sample", "--device", "cpu", "--num-samples", "2", "--max-new-tokens", "4", "--model"]).arg(model);
    command.arg("--data").arg(&data).arg("--output").arg(dir.join("rows.jsonl"));
    command
}

/// As [`error_of`], on one line and within a minute, which is for ever for a machine that is not busy; without the directory.
#[track_caller]
fn quick_error(dir: &Path, command: &mut Command) -> String {
    let start = Instant::now();
    let message = error_of(command).replace(&format!("{}/", dir.display()), "");
    assert!(start.elapsed() < Duration::from_secs(60), "{message} after {:?}", start.elapsed());
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn a_tokenizer_neither_cuts_nor_fills() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_in(dir.path());
    edit(&model.join("tokenizer.json"), |json| {
        json["truncation"] = json!({
            "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
        });
        json["padding"] = json!({
            "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "<end>",
        });
    });
    done(&mut sample(dir.path(), &model, "1+1="));
    for row in json_lines(&dir.path().join("rows.jsonl")) {
        assert_eq!(row["prompt_ids"], json!([2, 11, 2, 12]));
    }
}

#[test]
fn a_tokenizer_that_panics_or_goes_back_for_ever_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_in(dir.path());
    let file = model.join("tokenizer.json");
    edit(&file, |json| {
        json["pre_tokenizer"]["pattern"] = json!({ "Regex": "(A+)+(A+)+(A+)+Q" });
    });
    let message = quick_error(dir.path(), &mut sample(dir.path(), &model, &"A".repeat(60)));
    assert!(message.contains("model/tokenizer.json: the text does not tokenize"), "{message}");
    assert!(message.contains("retry-limit"), "{message}");
}

#[test]
fn a_chat_template_of_a_wrong_type_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_in(dir.path());
    fs::remove_file(model.join("chat_template.jinja")).unwrap();
    edit(&model.join("tokenizer_config.json"), |json| json["chat_template"] = json!({"default": "x"}));
    assert_eq!(
        quick_error(dir.path(), &mut sample(dir.path(), &model, "1+1=")),
        "model/tokenizer_config.json: chat_template is neither a template nor a list of named ones"
    );
}

/// A pipe that nobody writes to, a device without end, a directory: in place of each file of a model and of an adapter.
#[cfg(unix)]
#[test]
fn what_is_not_a_file_is_refused() {
    let adapter_files = ["adapter_config.json", "adapter_model.safetensors"];
    let model_files = [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ];
    for name in model_files.into_iter().chain(adapter_files) {
        for kind in ["pipe", "device", "directory"] {
            let dir = tempfile::tempdir().unwrap();
            let model = model_in(dir.path());
            let adapter = copy_of("lora/llama/policy", &dir.path().join("adapter"));
            let place = if adapter_files.contains(&name) { &adapter } else { &model };
            let path = place.join(name);
            let _ = fs::remove_file(&path);
            match kind {
                "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
                "device" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            let mut command = sample(dir.path(), &model, "1+1=");
            if place == &adapter {
                command.arg("--adapter").arg(&adapter);
            }
            let message = quick_error(dir.path(), &mut command);
            assert!(message.ends_with(&format!("{name}: is not a regular file")), "{kind}: {message}");
        }
    }
}

/// No memory is asked for what no file has, and no time is spent on it.
#[test]
fn sizes_that_no_model_has_end_at_once() {
    let sizes =
        ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim", "vocab_size"];
    for name in sizes {
        for size in [1_000_000_000u64, 1 << 40, 1 << 62, 1 << 63] {
            let dir = tempfile::tempdir().unwrap();
            let model = model_in(dir.path());
            edit(&model.join("config.json"), |json| json[name] = size.into());
            quick_error(dir.path(), &mut sample(dir.path(), &model, "1+1="));
        }
    }
    for r in [1_000_000_000u64, 1 << 62, u64::MAX] {
        let dir = tempfile::tempdir().unwrap();
        let model = model_in(dir.path());
        let adapter = copy_of("lora/llama/policy", &dir.path().join("adapter"));
        edit(&adapter.join("adapter_config.json"), |json| json["r"] = r.into());
        let message = quick_error(dir.path(), sample(dir.path(), &model, "1+1=").arg("--adapter").arg(&adapter));
        assert!(message.contains("is not supported; at most"), "{message}");
    }
}

/// A limit on address space stands in for a machine that is full.
#[cfg(target_os = "linux")]
#[test]
fn no_memory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_in(dir.path());
    edit(&model.join("config.json"), |json| json["max_position_embeddings"] = 100_000_000.into());
    let command = {
        let mut command = sample(dir.path(), &model, "1+1=");
        command.args(["--max-new-tokens", "9000000"]);
        command
    };
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 2000000; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    let message = quick_error(dir.path(), &mut limited);
    assert!(message.contains("and there is no memory for it"), "{message}");
}
