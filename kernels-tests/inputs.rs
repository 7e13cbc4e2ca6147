//! What a run was made from: `--resume` refuses rows, problems and models that are not what they were.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::{copy_of, dqo, error_of};
use crate::whole_loop::{asset, done, model_in, problems, verb};

/// An edit that keeps a file's form.
type Edit = fn(&[u8]) -> Vec<u8>;

fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.contains(from), "{text}");
    text.replacen(from, to, 1).into_bytes()
}

fn half_the_lines(bytes: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().take(text.lines().count() / 2).flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

/// Of a weight: the last one's sign.
fn other_sign(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 0x80;
    bytes
}

/// Runs to the end, then goes on with a file that an option names and that has been edited, then with it as it was.
#[track_caller]
fn refuses(run: impl Fn() -> Command, option: &str, file: &Path, beginner: &str, edits: &[Edit]) {
    done(&mut run());
    let before = fs::read(file).unwrap();
    for edit in edits {
        let edited = edit(&before);
        assert!(edited != before);
        fs::write(file, edited).unwrap();
        let expected = format!(
            "--resume: {} ({option}) has changed since {beginner} began; put it back as it was, or begin another one",
            file.display()
        );
        assert_eq!(error_of(run().arg("--resume")), expected);
    }
    fs::write(file, before).unwrap();
    done(run().arg("--resume"));
}

fn train(method: &str, set: &Path, output: &Path, more: &[&str]) -> Command {
    let mut command = dqo();
    command.args(["train", "--device", "cpu", "--batch-size", "4", "--max-steps", "2", "--method", method]).args(more);
    command.arg("--model").arg(set.join("policy")).arg("--output-dir").arg(output);
    command
}

#[test]
fn a_run_goes_on_with_the_rows_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let set = copy_of("dqo/llama", &dir.path().join("set"));
    let rows = set.join("rows.jsonl");
    let reward: Edit = |bytes| replace(bytes, "\"reward\": 1.0", "\"reward\": 0.0");
    let completion: Edit = |bytes| replace(bytes, "\"completion_ids\": [15, 4,", "\"completion_ids\": [15, 5,");
    for method in ["dqo", "sft", "kto"] {
        let output = dir.path().join(method);
        let run = || {
            let mut command = train(method, &set, &output, &[]);
            command.arg("--data").arg(&rows);
            command
        };
        refuses(run, "--data", &rows, "the run", &[reward, completion, half_the_lines]);
    }
}

#[test]
fn a_run_goes_on_with_the_models_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let set = copy_of("dqo/llama", &dir.path().join("set"));
    let run = |name: &str, lora_r: &str| {
        let mut command = train("dqo", &set, &dir.path().join(name), &["--lora-r", lora_r]);
        command.arg("--data").arg(set.join("rows.jsonl")).arg("--ref-model").arg(set.join("reference"));
        command
    };
    let weights = |part: &str| set.join(part).join("model.safetensors");
    refuses(|| run("base", "4"), "--model", &weights("policy"), "the run", &[other_sign]);
    // The reference's log-probs are kept; they are those of the weights that it had.
    refuses(|| run("reference", "0"), "--ref-model", &weights("reference"), "the run", &[other_sign]);
    let with_value = || {
        let mut command = train("dqo", &set, &dir.path().join("value"), &[]);
        command.arg("--data").arg(set.join("rows.jsonl")).arg("--value-model").arg(set.join("value"));
        command
    };
    refuses(with_value, "--value-model", &weights("value"), "the run", &[other_sign]);
}

#[test]
fn rounds_go_on_with_the_problems_they_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 8);
    let model = asset("model");
    let run = || {
        let mut command = verb("train", &data);
        command.args(["--method", "ppo", "--batch-size", "4", "--max-steps", "2", "--max-new-tokens", "8"]);
        command.arg("--model").arg(&model).arg("--output-dir").arg(dir.path().join("run"));
        command
    };
    let problem: Edit = |bytes| replace(bytes, "+", "-");
    refuses(run, "--data", &data, "the run", &[problem, half_the_lines]);
}

#[test]
fn an_output_goes_on_with_what_it_was_made_from() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 4);
    let model = model_in(dir.path());
    let with_model = |name: &str, data: &Path, output: &Path| {
        let mut command = verb(name, data);
        command.args(["--max-new-tokens", "8"]).arg("--model").arg(&model).arg("--output").arg(output);
        command
    };
    let sampled = dir.path().join("sampled.jsonl");
    let sample = || {
        let mut command = with_model("sample", &data, &sampled);
        command.args(["--num-samples", "2"]);
        command
    };
    let problem: Edit = |bytes| replace(bytes, "+", "-");
    refuses(sample, "--data", &data, "the output", &[problem, half_the_lines]);
    let weights = model.join("model.safetensors");
    fs::remove_file(&sampled).unwrap();
    fs::remove_file(dir.path().join("sampled.jsonl.toml")).unwrap();
    refuses(sample, "--model", &weights, "the output", &[other_sign]);

    let scored = dir.path().join("scored.jsonl");
    let reward: Edit = |bytes| replace(bytes, "\"reward\":0", "\"reward\":1");
    let process_reward = || {
        let mut command = with_model("process-reward", &sampled, &scored);
        command.args(["--num-samples", "2"]);
        command
    };
    refuses(process_reward, "--data", &sampled, "the output", &[reward]);
}

/// A step's learning rate is that of its share of the run, so the run's length stays.
#[test]
fn a_schedule_goes_on_over_the_steps_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let set = copy_of("dqo/llama", &dir.path().join("set"));
    for schedule in [["--lr-scheduler-type", "linear"], ["--lr-scheduler-type", "cosine"], ["--warmup-ratio", "0.5"]] {
        let output = dir.path().join(schedule[1]);
        let run = || {
            let mut command = train("sft", &set, &output, &schedule);
            command.arg("--data").arg(set.join("rows.jsonl"));
            command
        };
        done(&mut run());
        let longer = error_of(run().args(["--resume", "--max-steps", "3"]));
        let config = output.join("config.toml");
        let expected =
            format!("--resume: --max-steps is 2 in {} and 3 now; the run goes on as it began", config.display());
        assert_eq!(longer, expected);
    }
}
