//! Model ids, fetched from a hub on this machine.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::command::{dqo, error_of, json_of, stderr};
use crate::model::{golden, json_lines};

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
    let message = error_of(&mut missing);
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
