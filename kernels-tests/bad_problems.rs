//! Bad input to the verbs around training: one clear error, exit code 1, and what was finished is kept.

use std::fs;
use std::path::Path;
use std::process::Command;

#[cfg(unix)]
use crate::command::on_full_disk;
use crate::command::{dqo, error_of, train};
use crate::model::{golden, json_lines};
use crate::whole_loop::{assert_same_rows, model_in, problems, sample, verb, with_model};

/// The error of a command in a directory, without the directory's path.
#[track_caller]
fn error_in(dir: &Path, command: &mut Command) -> String {
    error_of(command).replace(&format!("{}/", dir.display()), "")
}

#[test]
fn problems_are_refused_by_file_line_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("problems.jsonl");
    let output = dir.path().join("rows.jsonl");
    let good = "{\"prompt\": \"Q: 1+1\\nA: \", \"answer\": \"2\"}";
    let long = format!("{{\"prompt\": \"{}\", \"answer\": \"2\"}}", "1".repeat(200));
    let cases = [
        ("eval", "{\"prompt\": \"1+1\"}", "problems.jsonl:2: field `answer`: is missing, and is needed to grade"),
        (
            "sample",
            long.as_str(),
            "problems.jsonl:2: the prompt has 200 tokens, and the model's context of 128 leaves no room for a response",
        ),
        ("sample", "{\"text\": \"1+1\"}", "problems.jsonl:2: field `question` (or `problem`, or `prompt`): is missing"),
        ("sample", "{\"question\": 7, \"answer\": \"#### 2\"}", "problems.jsonl:2: field `question`: 7 is not text"),
        (
            "grade",
            "{\"completion\": \"2\"}",
            "problems.jsonl:1: field `completion`: is missing (or `response`), or is not text",
        ),
    ];
    for (name, line, expected) in cases {
        fs::write(&data, format!("{good}\n{line}\n")).unwrap();
        let mut command = if name == "grade" { dqo() } else { with_model(name, &data) };
        if name == "grade" {
            command.args(["grade", "--task", "gsm8k", "--data"]).arg(&data);
        }
        assert_eq!(error_in(dir.path(), command.arg("--output").arg(&output)), expected);
        assert!(!output.exists(), "{line}");
    }
    fs::write(&data, "\n").unwrap();
    assert_eq!(error_in(dir.path(), &mut sample(&data, &output, &[])), "problems.jsonl: has no rows");
}

#[test]
fn rollouts_without_what_is_judged_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("rows.jsonl");
    for (line, expected) in [
        (
            "{\"prompt\": \"Q\", \"completion\": \"1\", \"answer\": \"1\"}",
            "field `reward`: is missing (or `label`); `grade` adds it",
        ),
        (
            "{\"prompt\": \"Q\", \"completion\": \"1\", \"reward\": 0}",
            "field `answer`: is missing, and is needed to grade",
        ),
    ] {
        fs::write(&data, line).unwrap();
        let mut command = with_model("process-reward", &data);
        let message = error_in(dir.path(), command.arg("--output").arg(dir.path().join("scored.jsonl")));
        assert_eq!(message, format!("rows.jsonl:1: {expected}"));
    }
}

/// Such an id would index a table of embeddings that ends before it.
#[test]
fn a_token_without_an_embedding_is_refused_by_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let model = model_in(dir.path());
    // The tokenizer knows a token more than the model, whose vocabulary is 19.
    let tokenizer = fs::read_to_string(model.join("tokenizer.json")).unwrap();
    fs::write(model.join("tokenizer.json"), tokenizer.replace("\":\": 18", "\":\": 18, \"?\": 19")).unwrap();
    let write = |name: &str, line: &str| {
        let good = r#"{"prompt": "1+1", "completion": "2", "answer": "2", "reward": 0}"#;
        fs::write(path(name), format!("{good}\n{line}\n")).unwrap();
        path(name)
    };
    let problems = write("problems.jsonl", r#"{"prompt": "1?", "answer": "2"}"#);
    let rows = write("rows.jsonl", r#"{"prompt": "1+1", "completion": "2?", "answer": "2", "reward": 0}"#);
    let prompts = write("prompts.jsonl", r#"{"prompt": "1?", "completion": "2", "answer": "2", "reward": 0}"#);
    let good = path("good.jsonl");
    fs::write(&good, r#"{"prompt": "1+1", "completion": "2", "reward": 0}"#).unwrap();

    let beyond = "19 is beyond the model's vocabulary of 19";
    let of_prompt = format!("the prompt's token ids[1]: {beyond}; is tokenizer.json another model's?");
    let of_row = |field: &str| format!("field `{field}`[1]: {beyond}; were the rows made with another model?");
    let refused = |mut command: Command, expected: String| {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(error_in(dir.path(), &mut command), expected, "{words:?}");
        assert!(!path("output.jsonl").exists() && !path("run").exists(), "{words:?}");
    };
    let command = |words: &[&str], network: &str, data: &Path| {
        let mut command = dqo();
        command.args(words).args(["--device", "cpu", network]).arg(&model).arg("--data").arg(data);
        command
    };
    let writes = |words: &[&str], network: &str, data: &Path| {
        let mut command = command(words, network, data);
        command.arg("--output").arg(path("output.jsonl"));
        command
    };
    for verb in ["sample", "eval"] {
        refused(writes(&[verb, "--task", "gsm8k"], "--model", &problems), format!("problems.jsonl:2: {of_prompt}"));
    }
    let mut generate = dqo();
    generate.args(["generate", "--device", "cpu", "--raw", "--prompt", "1?", "--model"]).arg(&model);
    refused(generate, format!("--prompt: {of_prompt}"));
    for verb in ["process-reward", "logp"] {
        refused(writes(&[verb], "--model", &rows), format!("rows.jsonl:2: {}", of_row("completion_ids")));
        refused(writes(&[verb], "--model", &prompts), format!("prompts.jsonl:2: {}", of_row("prompt_ids")));
    }
    let trains = |method: &str, data: &Path, more: &[&str]| {
        let mut command = command(&["train", "--method", method], "--model", data);
        command.args(more).arg("--output-dir").arg(path("run"));
        command
    };
    refused(trains("dqo", &rows, &[]), format!("rows.jsonl:2: {}", of_row("completion_ids")));
    refused(trains("ppo", &problems, &["--task", "gsm8k"]), format!("problems.jsonl:2: {of_prompt}"));
    let mut evaluates = trains("dqo", &good, &[]);
    evaluates.arg("--eval-data").arg(&problems);
    refused(evaluates, format!("problems.jsonl:2: {of_prompt}"));
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    fs::write(model.join("config.json"), config.replace("ForCausalLM", "ForTokenClassification")).unwrap();
    refused(writes(&["values"], "--value", &rows), format!("rows.jsonl:2: {}", of_row("completion_ids")));
}

#[test]
fn a_template_that_fails_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_in(dir.path());
    let data = problems(dir.path(), 2);
    for (template, expected) in [
        (
            "{{ raise_exception('only one message') }}",
            "problems.jsonl:1: the chat template fails: invalid operation: only one message (in chat_template:1)",
        ),
        (
            "{% for %}",
            "model/chat_template.jinja: the chat template is not valid: syntax error: unexpected end of block",
        ),
    ] {
        fs::write(model.join("chat_template.jinja"), template).unwrap();
        let mut command = verb("sample", &data);
        let message =
            error_in(dir.path(), command.arg("--model").arg(&model).arg("--output").arg(dir.path().join("rows.jsonl")));
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn a_policy_and_a_value_network_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let set = golden("dqo/llama");
    let run = dir.path().join("run");
    assert!(train("dqo/llama", &set.join("rows.jsonl"), &run).output().unwrap().status.success());
    let (policy, value) = (run.join("final/policy"), run.join("final/value"));
    let rows = set.join("rows.jsonl");
    let mut command = dqo();
    command.args(["logp", "--device", "cpu", "--model"]).arg(&value).arg("--data").arg(&rows);
    let message = error_in(dir.path(), command.arg("--output").arg(dir.path().join("logps.jsonl")));
    let expected = "config.json: architectures is LlamaForTokenClassification, and a policy is a *ForCausalLM; \
                    a value network goes with --value-model";
    assert_eq!(message, expected);
    let mut command = dqo();
    command.args(["values", "--device", "cpu", "--value"]).arg(&policy).arg("--data").arg(&rows);
    let message = error_in(dir.path(), command.arg("--output").arg(dir.path().join("values.jsonl")));
    let expected = "--value run/final/policy: architectures is \"LlamaForCausalLM\", and a value network is a \
                    LlamaForTokenClassification";
    assert_eq!(message, expected);
    let mut command = dqo();
    command.args(["values", "--value"]).arg(&value).arg("--data").arg(&rows).args(["--output", "values.txt"]);
    assert_eq!(error_of(&mut command), "--output values.txt: is neither .jsonl nor .html, nor - for rows");
}

#[test]
fn an_output_is_neither_written_over_nor_believed() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 4);
    let output = dir.path().join("rows.jsonl");
    assert!(sample(&data, &output, &[]).output().unwrap().status.success());
    let before = fs::read(&output).unwrap();
    let error = error_in(dir.path(), &mut sample(&data, &output, &[]));
    assert_eq!(error, "rows.jsonl: exists already; go on with it by --resume, or choose another --output");
    let error = error_in(dir.path(), &mut sample(&data, &output, &["--resume", "--seed", "7"]));
    assert_eq!(error, "--resume: --seed is 42 in rows.jsonl.toml and 7 now; the output goes on as it began");
    assert!(fs::read(&output).unwrap() == before);
    // A row that is damaged in the middle of the file is not a row that was cut off at its end.
    let text = String::from_utf8(before).unwrap();
    fs::write(&output, text.replacen("\"prompt\"", "prompt", 1)).unwrap();
    let error = error_in(dir.path(), &mut sample(&data, &output, &["--resume"]));
    assert!(error.starts_with("rows.jsonl:1: is damaged: "), "{error}");
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_keeps_the_finished_rows() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 30);
    let (whole, output) = (dir.path().join("whole.jsonl"), dir.path().join("rows.jsonl"));
    assert!(sample(&data, &whole, &[]).output().unwrap().status.success());
    let command = sample(&data, &output, &[]);
    // 40 blocks hold some of the rows.
    let message = error_in(dir.path(), &mut on_full_disk(40, &command));
    assert!(message.starts_with("rows.jsonl: cannot be written; the finished rows are kept: "), "{message}");
    let kept = json_lines(&output).len();
    assert!((5..90).contains(&kept), "{kept} rows are kept");
    assert!(sample(&data, &output, &["--resume"]).output().unwrap().status.success());
    assert_same_rows(&output, &whole);
}
