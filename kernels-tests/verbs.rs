//! The verbs as a user runs them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{dqo, stderr, train};
use crate::harness::skip_gpu;
use crate::model::{floats, golden, json_lines};

fn json_of(command: &mut std::process::Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn devices_lists_the_adapters() {
    let listed = json_of(dqo().args(["devices", "--json"]));
    assert!(listed["cpu"]["threads"].as_u64().unwrap() > 0);
    if !skip_gpu() {
        let adapter = &listed["adapters"][0];
        assert!(adapter["max_binding_bytes"].as_u64().unwrap() >= 1 << 20, "{adapter}");
    }
    let text = dqo().arg("devices").output().unwrap();
    assert!(String::from_utf8(text.stdout).unwrap().contains("cpu  the kernels' CPU twins"));
}

#[test]
fn plan_says_what_train_takes_and_writes_nothing() {
    let set = golden("dqo/llama");
    let dir = tempfile::tempdir().unwrap();
    let mut command = dqo();
    command.args(["plan", "--method", "dqo", "--device", "cpu", "--json", "--batch-size", "2"]).current_dir(dir.path());
    command.arg("--model").arg(set.join("policy")).arg("--data").arg(set.join("rows.jsonl"));
    let plan = json_of(&mut command);
    assert_eq!((plan["steps"].as_u64(), plan["rows"].as_u64()), (Some(2), Some(4)));
    let buffers = plan["buffers"].as_array().unwrap();
    assert!(buffers.iter().any(|buffer| buffer["name"] == "policy/weights/model.layers.0.mlp.up_proj.weight"));
    let total: u64 = buffers.iter().map(|buffer| buffer["bytes"].as_u64().unwrap()).sum();
    assert_eq!(plan["peak_bytes"].as_u64().unwrap(), total);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn logp_writes_a_row_for_each_row() {
    let model = golden("models/qwen2");
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("logps.jsonl");
    let mut command = dqo();
    command.args(["logp", "--device", "cpu", "--model"]).arg(&model);
    command.arg("--data").arg(model.join("rows.jsonl")).arg("--output").arg(&output);
    assert!(command.output().unwrap().status.success());
    let (rows, expected) = (json_lines(&output), json_lines(&model.join("logps.jsonl")));
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(&expected) {
        for name in ["logps", "entropies"] {
            let (found, expected) = (floats(&row[name]), floats(&expected[name]));
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= 2e-5));
        }
    }
}

#[test]
fn a_recorded_configuration_repeats_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let mut command = train("dqo/llama", &golden("dqo/llama/rows.jsonl"), &first);
    command.args(["--learning-rate", "1e-3", "--beta", "0.1", "--policy-is", "false", "--max-steps", "3"]);
    assert!(command.output().unwrap().status.success());
    // The file says everything; what is typed wins over it.
    let mut again = dqo();
    again.args(["train", "--config"]).arg(first.join("config.toml")).arg("--output-dir").arg(&second);
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for file in ["final/policy/model.safetensors", "final/value/model.safetensors", "final/policy/config.json"] {
        assert!(std::fs::read(first.join(file)).unwrap() == std::fs::read(second.join(file)).unwrap(), "{file}");
    }
    let config = std::fs::read_to_string(second.join("config.toml")).unwrap();
    assert!(config.contains("beta = 0.1") && config.contains("policy_is = false"), "{config}");
}

#[test]
fn a_value_network_is_written_as_a_token_classifier() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    assert!(train("dqo/gemma", &golden("dqo/gemma/rows.jsonl"), &output).output().unwrap().status.success());
    let config: Value =
        serde_json::from_slice(&std::fs::read(output.join("final/value/config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "GemmaForTokenClassification");
    assert_eq!(config["num_labels"], 1);
    let config: Value =
        serde_json::from_slice(&std::fs::read(output.join("final/policy/config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "GemmaForCausalLM");
    assert_eq!(config["dtype"], "float32");
}

#[test]
fn bench_times_a_kernel_and_holds_it_against_its_limit() {
    let result = json_of(dqo().args(["bench", "--device", "cpu", "--kernel", "gated_mlp", "--json"]));
    let rows = result["kernels"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(row["seconds"].as_f64().unwrap() > 0.0 && row["share"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["error"].as_f64().unwrap() <= 1e-5, "{row}");
    }
}

/// A model id is fetched from a hub: here a small one on this machine.
#[test]
fn a_model_id_is_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || serve(&listener, &golden("models/llama")));
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("logps.jsonl");
    let mut command = dqo();
    command.env("HF_ENDPOINT", &endpoint).env("HF_HOME", dir.path().join("hub")).env_remove("HF_TOKEN");
    command
        .args(["logp", "--device", "cpu", "--model", "somebody/llama", "--data"])
        .arg(golden("models/llama/rows.jsonl"));
    command.arg("--output").arg(&output);
    let result = command.output().unwrap();
    assert!(result.status.success(), "{}", stderr(&result));
    assert_eq!(json_lines(&output).len(), json_lines(&golden("models/llama/logps.jsonl")).len());

    // A plan fetches no weights.
    let mut plan = dqo();
    plan.env("HF_ENDPOINT", &endpoint).env("HF_HOME", dir.path().join("planned")).env_remove("HF_TOKEN");
    plan.args(["plan", "--json", "--method", "sft", "--device", "cpu", "--model", "somebody/llama"]);
    assert!(json_of(&mut plan)["peak_bytes"].as_u64().unwrap() > 0);
    let fetched = files_below(&dir.path().join("planned"));
    let has = |name: &str| fetched.iter().any(|path| path.ends_with(name));
    assert!(has("config.json") && !has("model.safetensors"), "{fetched:?}");

    let mut missing = dqo();
    missing.env("HF_ENDPOINT", &endpoint).env("HF_HOME", dir.path().join("hub")).env_remove("HF_TOKEN");
    missing.args(["logp", "--device", "cpu", "--model", "somebody/else", "--data", "x", "--output", "y"]);
    let message = crate::command::error_of(&mut missing);
    let expected = "somebody/else: there is no such directory, and the hub does not give a model of this id: ";
    assert!(message.starts_with(expected), "{message}");
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The hub's answers for one model, as far as a client that fetches it asks.
fn serve(listener: &TcpListener, model: &Path) {
    const COMMIT: &str = "0123456789012345678901234567890123456789";
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let lines: Vec<String> =
            BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        let range =
            lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let files = ["config.json", "model.safetensors"];
        let answer = if path.starts_with("/api/models/somebody/llama") {
            let siblings: Vec<_> = files.iter().map(|file| serde_json::json!({ "rfilename": file })).collect();
            Some(serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string().into_bytes())
        } else {
            let file = files.iter().find(|file| path == format!("/somebody/llama/resolve/main/{file}"));
            file.map(|file| std::fs::read(model.join(file)).unwrap())
        };
        let Some(body) = answer else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            continue;
        };
        let (first, last) = match range.as_deref().and_then(|range| range.split_once('-')) {
            Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap_or(body.len() - 1).min(body.len() - 1)),
            None => (0, body.len() - 1),
        };
        let part = &body[first..=last];
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\nETag: \"{}\"\r\n\
             X-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
            part.len(),
            body.len(),
            path.replace('/', "-")
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(part)).unwrap();
    }
}
