//! A conversation, as a pipe has it and as a terminal does.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Value, json};

use crate::command::{copy_dir, copy_of, dqo, error_of, stderr};
use crate::model::{floats, golden, json_lines};
use crate::whole_loop::asset;

const GREEDY: [&str; 4] = ["--temperature", "0", "--max-new-tokens", "48"];

fn chat(model: &Path) -> Command {
    let mut command = dqo();
    command.args(["chat", "--device", "cpu", "--model"]).arg(model);
    command
}

/// A command with these lines as its standard input.
fn output_of(command: &mut Command, lines: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who has ended reads no more.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a conversation that ends well writes.
fn said(command: &mut Command, lines: &str) -> String {
    let output = output_of(command, lines);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The error of a conversation, after what it has written.
fn refused(command: &mut Command, lines: &str) -> String {
    let output = output_of(command, lines);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    stderr(&output).lines().last().unwrap().to_owned()
}

fn messages(parts: &[(&str, &str)]) -> Value {
    parts.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

/// The row that `sample` makes of a prompt, greedily.
fn sampled(model: &Path, prompt: &Value) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("prompt.jsonl");
    fs::write(&data, json!({ "prompt": prompt }).to_string()).unwrap();
    let mut command = dqo();
    command.args(["sample", "--device", "cpu", "--num-samples", "1", "--output", "-", "--model"]).arg(model);
    let output = command.args(GREEDY).arg("--data").arg(data).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn answer(prompt: &[(&str, &str)]) -> String {
    sampled(&asset("model"), &messages(prompt))["completion"].as_str().unwrap().to_owned()
}

#[test]
fn an_answer_is_to_all_that_was_said() {
    let first = answer(&[("user", "12+34")]);
    assert!(first.ends_with("#### 46"));
    let again = answer(&[("user", "12+34"), ("assistant", &first), ("user", "5+6")]);
    let alone = answer(&[("user", "5+6")]);
    let instructed = answer(&[("system", "7+7"), ("user", "5+6")]);
    assert!(again != alone && instructed != alone, "{again:?} {alone:?} {instructed:?}");

    let model = asset("model");
    let talk = |more: &[&str], lines: &str| said(chat(&model).args(GREEDY).args(more), lines);
    assert_eq!(talk(&[], "12+34\n\n5+6"), format!("{first}\n{again}\n"));
    assert_eq!(talk(&[], "12+34\n/reset\n 5+6 \r\n"), format!("{first}\n{alone}\n"));
    assert_eq!(talk(&["--system", "7+7"], "5+6\n"), format!("{instructed}\n"));
    assert_eq!(talk(&[], "/system 7+7\n5+6\n/reset\n/system\n5+6\n"), format!("{instructed}\n{alone}\n"));
    assert_eq!(talk(&["--system", ""], "5+6\n"), format!("{alone}\n"));
    assert_eq!(talk(&[], "5+6\n/quit\n12+34\n"), format!("{alone}\n"));
    assert_eq!(talk(&[], "/help\n"), "");
    assert_eq!(talk(&[], ""), "");
}

#[test]
fn draws_are_those_of_the_seed_and_other_ones_at_each_turn() {
    let model = asset("model");
    let whole = ["--temperature", "3", "--top-k", "0", "--top-p", "1", "--min-prob", "0", "--max-new-tokens", "24"];
    let talk = |seed: &str, lines: &str| said(chat(&model).args(whole).args(["--seed", seed]), lines);
    let mut generate = dqo();
    generate
        .args(["generate", "--device", "cpu", "--seed", "7", "--prompt", "12+34", "--model"])
        .arg(&model)
        .args(whole);
    let expected = String::from_utf8(generate.output().unwrap().stdout).unwrap();
    assert_eq!(talk("7", "12+34\n"), expected);
    let twice = talk("7", "12+34\n/reset\n12+34\n");
    assert!(twice.starts_with(&expected) && twice != expected.repeat(2), "{twice}");
    assert_ne!(talk("8", "12+34\n"), expected);
}

#[test]
fn what_has_no_room_is_forgotten_or_refused_and_never_cut() {
    let first = answer(&[("user", "12+34")]);
    let alone = answer(&[("user", "5+6")]);
    let model = asset("model");
    let row = sampled(&model, &messages(&[("user", "12+34"), ("assistant", &first), ("user", "5+6")]));
    let room = row["prompt_ids"].as_array().unwrap().len() - 1;
    let mut command = chat(&model);
    command.args(GREEDY).args(["--max-length", &room.to_string()]);
    let output = output_of(&mut command, "12+34\n5+6\n");
    assert_eq!(String::from_utf8(output.stdout.clone()).unwrap(), format!("{first}\n{alone}\n"));
    let note = format!("1 turn is forgotten: there is room for {room} tokens");
    assert!(stderr(&output).lines().any(|line| line == note), "{}", stderr(&output));

    let long = "1+".repeat(400);
    let message = refused(chat(&model).args(GREEDY), &format!("5+6\n{long}\n5+6\n"));
    let expected = Regex::new(
        r"^error: standard input:2: the message has \d+ tokens, with what the chat template adds, and there is room for \d+$",
    );
    assert!(expected.unwrap().is_match(&message), "{message}");
    let message = error_of(chat(&model).args(["--max-length", "1000000"]).stdin(Stdio::null()));
    assert!(message.starts_with("--max-length is 1000000; the model's context of "), "{message}");
    let output = output_of(chat(&model).args(["--temperature", "0", "--max-new-tokens", "3"]), "12+34\n");
    assert!(stderr(&output).ends_with("the answer is cut off after 3 tokens\n"), "{}", stderr(&output));
}

#[test]
fn a_line_that_is_wrong_is_named() {
    let model = asset("model");
    let message = refused(chat(&model).args(GREEDY), "5+6\n/rest\n");
    assert_eq!(
        message,
        "error: standard input:2: there is no /rest of this form; /help says what there is, and a message is written after a \
         space"
    );
    assert_eq!(said(chat(&model).args(GREEDY), " /5\n"), answer(&[("user", "/5")]) + "\n");
    let mut command = chat(&model);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\xff\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "error: standard input:1: is not UTF-8\n");
}

/// What `values` says of the same answer.
#[test]
fn v_stands_beside_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (model, value) = (golden("ppo/policy"), copy_of("ppo/value", &dir.path().join("value")));
    fs::copy(model.join("tokenizer.json"), value.join("tokenizer.json")).unwrap();
    let row = sampled(&model, &messages(&[("user", "3+4")]));
    let (data, output) = (dir.path().join("row.jsonl"), dir.path().join("values.jsonl"));
    fs::write(&data, row.to_string()).unwrap();
    let mut command = dqo();
    command.args(["values", "--device", "cpu", "--value"]).arg(&value);
    assert!(command.arg("--data").arg(&data).arg("--output").arg(&output).status().unwrap().success());
    let values = floats(&json_lines(&output)[0]["values"]);
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let text = said(chat(&model).args(GREEDY).arg("--value").arg(&value), "3+4\n");
    let (answer, v) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(answer, row["completion"].as_str().unwrap());
    let expected = format!("[V {:.3} at the end, lowest {lowest:.3} before \"", values.last().unwrap());
    assert!(v.starts_with(&expected) && v.ends_with("\"]"), "{v}: {expected}");

    let message = error_of(chat(&model).arg("--value").arg(&model).stdin(Stdio::null()));
    assert!(message.ends_with("and a value network is a LlamaForTokenClassification"), "{message}");
    let message = error_of(chat(&model).arg("--value").arg(golden("dqo/llama/value")).stdin(Stdio::null()));
    assert!(message.contains("is not that of --model"), "{message}");
}

/// The value network of a run with adapters is adapters itself.
#[test]
fn the_adapters_of_a_run_are_policy_and_value_network() {
    let dir = tempfile::tempdir().unwrap();
    let model = asset("model");
    let rows: String = (0..4)
        .map(|i| format!("{{\"prompt\": \"{i}+3\", \"completion\": \"7 7\", \"reward\": {}}}\n", i % 2))
        .collect();
    fs::write(dir.path().join("rows.jsonl"), rows).unwrap();
    let run: PathBuf = dir.path().join("run");
    let mut train = dqo();
    train.args(["train", "--method", "dqo", "--device", "cpu", "--lora-r", "2", "--max-steps", "1", "--model"]);
    train.arg(&model).arg("--data").arg(dir.path().join("rows.jsonl")).arg("--output-dir").arg(&run);
    assert!(train.output().unwrap().status.success());
    let mut command = chat(&model);
    command.args(GREEDY).arg("--adapter").arg(run.join("final/policy")).arg("--value").arg(run.join("final/value"));
    let text = said(&mut command, "12+34\n");
    assert!(Regex::new(r"\n\[V -?\d\.\d{3} at the end, lowest ").unwrap().is_match(&text), "{text}");
    let wrong = error_of(chat(&model).arg("--value").arg(run.join("final/policy")).stdin(Stdio::null()));
    assert!(wrong.contains("its task_type is not TOKEN_CLS"), "{wrong}");
}

#[cfg(unix)]
mod on_a_terminal {
    use std::fs::File;
    use std::process::Child;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::resume::signal;
    use crate::terminal::terminal;

    /// A conversation at a terminal, and what it has shown so far.
    struct Seat {
        child: Child,
        keys: File,
        shown: Arc<Mutex<String>>,
    }

    impl Seat {
        fn new(command: &mut Command) -> Self {
            let (mut reader, writer) = terminal(100);
            let keys = reader.try_clone().unwrap();
            command.env("TERM", "xterm").stdin(writer.try_clone().unwrap()).stdout(writer.try_clone().unwrap());
            let child = command.stderr(writer).spawn().unwrap();
            // The command's ends of the terminal are the child's alone.
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let shown = Arc::new(Mutex::new(String::new()));
            let screen = Arc::clone(&shown);
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = reader.read(&mut bytes) {
                    screen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
                }
            });
            Self { child, keys, shown }
        }

        fn wait_for(&self, what: &str, is_there: impl Fn(&str) -> bool) {
            let start = Instant::now();
            while !is_there(&self.shown.lock().unwrap()) {
                let shown = self.shown.lock().unwrap().clone();
                assert!(start.elapsed() < Duration::from_secs(60), "no {what}: {shown:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }

        /// Waits for the prompt, the `count`th.
        fn wait_for_prompts(&self, count: usize) {
            // Each key that is typed draws its line anew, after a return of the carriage.
            let prompt = Regex::new(r"(^|\n)[^\n]*?> ").unwrap();
            self.wait_for("prompt", |shown| prompt.find_iter(shown).count() >= count);
        }

        fn press(&mut self, keys: &str) {
            self.keys.write_all(keys.as_bytes()).unwrap();
        }

        fn end(mut self) -> String {
            assert!(self.child.wait().unwrap().success());
            self.shown.lock().unwrap().clone()
        }
    }

    #[test]
    fn ctrl_c_clears_a_line_stops_an_answer_and_ends_at_an_empty_line() {
        // A context that no answer of a minute fills, and no token that ends one.
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        copy_dir(&asset("model"), &model);
        let config = fs::read(model.join("config.json")).unwrap();
        let mut config: serde_json::Map<String, Value> = serde_json::from_slice(&config).unwrap();
        config.insert("max_position_embeddings".to_owned(), 60000.into());
        assert!(config.remove("eos_token_id").is_some());
        fs::write(model.join("config.json"), Value::Object(config).to_string()).unwrap();
        fs::write(model.join("tokenizer_config.json"), "{}").unwrap();
        let mut seat = Seat::new(chat(&model).args(["--max-new-tokens", "50000", "--max-length", "100"]));
        seat.wait_for_prompts(1);
        seat.press("1+1\x03");
        seat.press("/nonsense\r");
        seat.wait_for("error", |shown| shown.contains("error: there is no /nonsense of this form"));
        seat.wait_for_prompts(2);
        seat.press("5+6\r");
        let after = |shown: &str| shown.rsplit("5+6").next().unwrap().trim().len();
        seat.wait_for("answer", |shown| shown.contains("5+6") && after(shown) > 20);
        signal(&seat.child, "INT");
        seat.wait_for_prompts(3);
        seat.press("\x03");
        seat.end();
    }
}
