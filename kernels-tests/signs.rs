//! A run that goes wrong says so: on stderr, in its records, and on its page; once, also where it is resumed.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::{copy_of, dqo, stderr};
use crate::model::json_lines;

fn train(set: &Path, output: &Path, more: &[&str]) -> Command {
    let mut command = dqo();
    command.args(["train", "--method", "dqo", "--device", "cpu", "--batch-size", "4"]).args(more);
    command.arg("--model").arg(set.join("policy")).arg("--ref-model").arg(set.join("policy"));
    command.arg("--data").arg(set.join("plain_rows.jsonl")).arg("--output-dir").arg(output);
    command
}

/// The warnings in a run's records, by step.
fn recorded(output: &Path) -> Vec<(u64, String)> {
    let of_row = |row: Value| -> Vec<(u64, String)> {
        let warnings = row["warnings"].as_array().cloned().unwrap_or_default();
        warnings.iter().map(|text| (row["step"].as_u64().unwrap(), text.as_str().unwrap().to_owned())).collect()
    };
    json_lines(&output.join("metrics.jsonl")).into_iter().flat_map(of_row).collect()
}

#[track_caller]
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_policy_that_leaves_its_data_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let (set, output) = (copy_of("dqo/llama", &dir.path().join("set")), dir.path().join("run"));
    // Far too large a rate: the policy leaves the responses within a few steps.
    let run = |more: &[&str]| {
        let rate = ["--learning-rate", "10", "--optimizer", "sgd", "--max-grad-norm", "0"];
        done(train(&set, &output, &rate).args(more))
    };
    let said = run(&["--max-steps", "6"]);
    let warnings = recorded(&output);
    for sign in ["is_weight/mean is ", "log_ratio is -", "entropy is "] {
        let of_sign: Vec<_> = warnings.iter().filter(|(_, text)| text.contains(sign)).collect();
        assert_eq!(of_sign.len(), 1, "{sign}: {warnings:?}");
        let (step, text) = of_sign[0];
        assert!(text.starts_with(&format!("step {step}: ")) && text.contains("--learning-rate"), "{text}");
        assert!(said.contains(&format!("warning: {text}\n")), "{said}");
    }
    let resumed = run(&["--max-steps", "8", "--resume"]);
    assert!(!resumed.contains("log_ratio is") && !resumed.contains("is_weight/mean is"), "{resumed}");

    let page = dir.path().join("page.html");
    done(dqo().arg("report").arg(&output).arg("--output").arg(&page));
    let page = fs::read_to_string(page).unwrap();
    for (_, text) in &warnings {
        assert!(page.contains(&format!("run: {text}</li>")), "{text}");
    }
}

#[test]
fn equal_rewards_are_said_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let (set, output) = (copy_of("dqo/llama", &dir.path().join("set")), dir.path().join("run"));
    let rows = set.join("plain_rows.jsonl");
    assert!(!done(&mut train(&set, &output, &["--max-steps", "1"])).contains("every reward"));
    assert!(recorded(&output).is_empty());

    let mut equal = String::new();
    for mut row in json_lines(&rows) {
        row["reward"] = 1.into();
        equal += &(row.to_string() + "\n");
    }
    fs::write(&rows, equal).unwrap();
    for method in ["dqo", "dro"] {
        let output = dir.path().join(method);
        let said = done(train(&set, &output, &["--max-steps", "2"]).args(["--method", method]));
        let expected = format!(
            "{}: every reward is 1: nothing tells {method} one response from another; sample more responses, or look at how \
             they were graded",
            rows.display()
        );
        assert!(said.contains(&format!("warning: {expected}\n")), "{said}");
        assert_eq!(recorded(&output), [(1, expected)]);
    }
}
