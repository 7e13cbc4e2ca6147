//! `-`: rows that come through standard input, and go to standard output.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::command::{copy_of, dqo, error_of, stderr};
use crate::model::golden;
use crate::whole_loop::{asset, problems, sample};

const DASH: &str = "-";

/// A row that `grade` finds right.
const GOOD: &str = "{\"completion\": \"#### 7\", \"answer\": \"7\"}";

/// A command with a file as its standard input.
fn piped(command: &mut Command, input: &Path) -> Output {
    let output = command.stdin(fs::File::open(input).unwrap()).stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

fn verb(verb: &str, data: &Path, output: &Path) -> Command {
    let mut command = dqo();
    command.arg(verb).arg("--data").arg(data).arg("--output").arg(output);
    command
}

/// What a command writes into a file it writes to standard output too, to the byte and with nothing beside it. `command` makes
/// it of its data and its output.
fn check(command: impl Fn(&Path, &Path) -> Command, data: &Path, file: &Path) {
    assert!(command(data, file).output().unwrap().status.success());
    let written = fs::read(file).unwrap();
    assert!(!written.is_empty());
    let output = piped(&mut command(Path::new(DASH), Path::new(DASH)), data);
    assert!(output.stdout == written, "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_verbs_write_to_standard_output_is_what_they_write_to_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (asked, rows) = (problems(dir.path(), 4), path("rows.jsonl"));
    check(|data, output| sample(data, output, &[]), &asked, &rows);
    let with = |name: &'static str, options: &'static [&str]| {
        move |data: &Path, output: &Path| {
            let mut command = verb(name, data, output);
            command.args(options);
            command
        }
    };
    check(with("grade", &["--task", "gsm8k"]), &rows, &path("graded.jsonl"));
    check(with("grade", &["--task", "gsm8k", "--json"]), &rows, &path("graded-too.jsonl"));
    let writes = |name: &'static str, options: &'static [&str]| {
        move |data: &Path, output: &Path| {
            let mut command = verb(name, data, output);
            command.args(["--device", "cpu", "--max-new-tokens", "8", "--model"]).arg(asset("model")).args(options);
            command
        }
    };
    check(writes("eval", &[]), &asked, &path("predictions.jsonl"));
    check(writes("eval", &["--json"]), &asked, &path("predictions-too.jsonl"));
    check(writes("process-reward", &["--num-samples", "1"]), &rows, &path("steps.jsonl"));

    let set = copy_of("dqo/llama", &path("set"));
    let logp = |data: &Path, output: &Path| {
        let mut command = verb("logp", data, output);
        command.args(["--device", "cpu", "--model"]).arg(set.join("policy"));
        command
    };
    check(logp, &set.join("rows.jsonl"), &path("logps.jsonl"));
    let value = copy_of("ppo/value", &path("value"));
    fs::copy(golden("ppo/policy").join("tokenizer.json"), value.join("tokenizer.json")).unwrap();
    let values = |data: &Path, output: &Path| {
        let mut command = verb("values", data, output);
        command.args(["--device", "cpu", "--value"]).arg(&value);
        command
    };
    check(values, &golden("ppo/round.jsonl"), &path("values.jsonl"));

    // A page names what it shows.
    let page = path("values.html");
    piped(&mut values(Path::new(DASH), &page), &golden("ppo/round.jsonl"));
    assert!(fs::read_to_string(&page).unwrap().contains("on standard input"));
}

#[test]
fn a_page_goes_to_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), "method = \"sft\"\n").unwrap();
    fs::write(dir.path().join("metrics.jsonl"), "{\"step\": 1, \"loss\": 0.5}\n").unwrap();
    let output = dqo().arg("report").arg(dir.path()).args(["--output", DASH]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"), "{page}");
}

#[test]
fn an_error_names_the_line_of_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    let message = |text: &str| {
        fs::write(&rows, text).unwrap();
        let mut command = verb("grade", Path::new(DASH), Path::new(DASH));
        command.args(["--task", "gsm8k"]).stdin(fs::File::open(&rows).unwrap());
        error_of(&mut command)
    };
    assert_eq!(message(""), "standard input: has no rows");
    assert_eq!(
        message(&format!("{GOOD}\n{{\"completion\": 3}}\n")),
        "standard input:2: field `completion`: is missing (or `response`), or is not text"
    );
    assert!(message(&format!("{GOOD}\n\nx\n")).starts_with("standard input:3: is not a JSON object: "));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    // More than a pipe holds.
    let row = json!({ "completion": "#### 7", "answer": "7", "text": "x".repeat(1000) }).to_string() + "\n";
    fs::write(&rows, row.repeat(2000)).unwrap();
    let mut command = verb("grade", Path::new(DASH), Path::new(DASH));
    command.args(["--task", "gsm8k"]).stdin(fs::File::open(&rows).unwrap());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("error"), "{}", stderr(&output));
}

#[test]
fn standard_output_cannot_be_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let message = error_of(sample(&problems(dir.path(), 1), Path::new(DASH), &[]).arg("--resume"));
    assert_eq!(message, "--resume: standard output cannot be gone on with; name a file as --output");
}

/// A file that happens to be called as standard input is, is none of a command's business.
#[test]
fn a_file_called_dash_is_let_be() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(DASH), "mine").unwrap();
    let mut command = verb("grade", Path::new(DASH), Path::new(DASH));
    command.args(["--task", "gsm8k"]).current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(GOOD.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(row["reward"], 1.0);
    assert_eq!(fs::read_to_string(dir.path().join(DASH)).unwrap(), "mine");
}

/// A run resumes with the same rows, and with no others; its reference's log-probs stand in its own directory.
#[test]
fn a_run_on_standard_input_goes_on_with_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let set = copy_of("dqo/llama", &dir.path().join("set"));
    let (rows, output): (PathBuf, PathBuf) = (set.join("rows.jsonl"), dir.path().join("run"));
    let run = |more: &[&str]| {
        let mut command = dqo();
        command.args(["train", "--method", "dqo", "--device", "cpu", "--max-steps", "2", "--data", DASH]).args(more);
        command.arg("--model").arg(set.join("policy")).arg("--output-dir").arg(&output).current_dir(dir.path());
        command
    };
    let result = piped(&mut run(&[]), &rows);
    assert_eq!(String::from_utf8(result.stdout).unwrap().trim_end(), output.join("final").display().to_string());
    assert!(output.join("reference.safetensors").exists() && !dir.path().join("-.reference").exists());
    piped(&mut run(&["--resume"]), &rows);
    let others = error_of(run(&["--resume"]).stdin(fs::File::open(set.join("plain_rows.jsonl")).unwrap()));
    let expected = "--resume: standard input (--data) has changed since the run began; give it what it had then, or begin \
                    another one";
    assert_eq!(others, expected);
    let nothing = error_of(run(&["--resume"]).stdin(Stdio::null()));
    assert_eq!(nothing, "standard input: has no rows");
    let both = error_of(run(&["--eval-data", DASH]).stdin(Stdio::null()));
    let expected = "--data and --eval-data are both standard input, which is read once; name a file for one of them";
    assert_eq!(both, expected);
}
