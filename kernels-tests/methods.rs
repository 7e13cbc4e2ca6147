//! The methods beside dqo and sft: a step of each against PyTorch, the command from rollouts to a result, what data each
//! takes and refuses. The goldens are made by tools/goldens/methods.py.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dqo_wgpu::objective::METHODS;
use dqo_wgpu::train::{OptimizerType, Watch};
use serde_json::{Value, json};

use crate::command::{dqo, error_of, stderr};
use crate::harness::skip_gpu;
use crate::model::{golden, json_lines};
use crate::training::{compare_step, config, devices, open, same_weights, tensors, train, with};

const SET: &str = "methods";
pub const OFFLINE: [&str; 8] = ["dqo", "dro", "dpo", "kto", "a2po", "grpo", "sft", "rs"];

/// A golden case's configuration: one plain step over all rows.
fn case_config(case: &Value, output: &Path) -> Value {
    let set = golden(SET);
    let method = METHODS.iter().find(|method| case["method"] == method.name).unwrap();
    let mut config = with(
        config(&set, case["data"].as_str().unwrap(), output),
        json!({
            "method": method.name, "ref_model": set.join("reference"), "optimizer": OptimizerType::Sgd,
            "learning_rate": 1.0, "max_grad_norm": 0.0, "max_steps": 1, "batch_size": 7,
        }),
    );
    // Every method has the networks that it knows of.
    for option in ["value_model", "ref_model"].into_iter().filter(|option| !method.has(option)) {
        config = with(config, json!({ option: null }));
    }
    with(config, case["settings"].clone())
}

#[test]
fn a_step_of_every_method_is_autograds() {
    let set = golden(SET);
    for case in json_lines(&set.join("cases.jsonl")) {
        let name = case["case"].as_str().unwrap();
        let gradients = tensors(&set.join(format!("{name}.safetensors")));
        for (device, dtype) in devices() {
            // All rows in one micro-batch, and each row (a pair: its two sequences) in one of its own.
            for tokens_per_micro_batch in [4096, 1] {
                let label = format!("{name} on {}, {tokens_per_micro_batch} tokens", device.description());
                let output = tempfile::tempdir().unwrap();
                let config = with(
                    case_config(&case, output.path()),
                    json!({"dtype": dtype, "tokens_per_micro_batch": tokens_per_micro_batch}),
                );
                let metrics = train(config, &device);
                for (metric, expected) in case["metrics"].as_object().unwrap() {
                    // The losses of dpo and kto are TRL's too.
                    let metric = if metric == "trl_loss" { "loss" } else { metric };
                    let (found, expected) = (metrics[0][metric].as_f64().unwrap(), expected.as_f64().unwrap());
                    // A mean of log-ratios is a difference of sums around 100, which f32 has to 1e-5.
                    let tolerance = 1e-4 * expected.abs().max(0.1);
                    assert!((found - expected).abs() <= tolerance, "{label}: {metric} is {found}, not {expected}");
                }
                for part in ["policy", "value"] {
                    let after = output.path().join("final").join(part);
                    assert_eq!(after.exists(), part == "policy" || name.starts_with("dro"), "{label}");
                    if after.exists() {
                        let files = [set.join(part), after].map(|dir| dir.join("model.safetensors"));
                        compare_step((&files[0], &files[1]), &format!("{part}."), &gradients, &label);
                    }
                }
            }
        }
    }
}

/// The policy that a run ends with.
fn policy(output: &Path) -> Vec<(String, Vec<f64>)> {
    tensors(&output.join("final/policy/model.safetensors")).into_iter().collect()
}

#[test]
fn the_cut_into_micro_batches_changes_no_step() {
    for case in json_lines(&golden(SET).join("cases.jsonl")) {
        let label = case["case"].as_str().unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (device, dtype) in devices() {
            let run = |budget: usize| {
                let output = dir.path().join(format!("{budget}-{}-{dtype:?}", dir_name(&device)));
                let config = with(
                    case_config(&case, &output),
                    json!({
                        "tokens_per_micro_batch": budget, "dtype": dtype, "learning_rate": 1e-2,
                        "batch_size": 3, "max_steps": 5,
                    }),
                );
                train(config, &device);
                policy(&output)
            };
            let together = run(4096);
            same_weights(&run(1), &together, 1e-6, &format!("{label}: each row alone"));
            same_weights(&run(24), &together, 1e-6, &format!("{label}: some rows together"));
        }
    }
}

fn dir_name(device: &dqo_wgpu::device::Device) -> String {
    format!("{}-{:?}", device.description(), device.as_gpu().map(|gpu| gpu.traits())).replace('/', "-")
}

#[test]
fn what_is_planned_is_what_every_method_allocates() {
    for case in json_lines(&golden(SET).join("cases.jsonl")) {
        let output = tempfile::tempdir().unwrap();
        let device = dqo_wgpu::device::Device::cpu(dqo_wgpu::device::Precision::F32);
        let config = with(case_config(&case, output.path()), json!({"batch_size": 2, "tokens_per_micro_batch": 30}));
        let run = open(&config, &device);
        let plan = run.plan().unwrap();
        run.train(false, Watch::silent(&std::sync::atomic::AtomicBool::new(false))).unwrap();
        let metrics = json_lines(&output.path().join("metrics.jsonl"));
        assert_eq!(metrics[0]["peak_memory_bytes"].as_u64(), Some(plan.peak_bytes), "{}", case["case"]);
    }
}

/// `train` by a method on the golden set's networks.
pub fn train_by(method: &str, rows: &Path, output: &Path) -> Command {
    by_method("train", method, rows, output)
}

/// As [`train_by`], or `plan` of the same run.
pub fn by_method(verb: &str, method: &str, rows: &Path, output: &Path) -> Command {
    let mut command = dqo();
    command.args([verb, "--method", method, "--device", "cpu", "--batch-size", "4", "--learning-rate", "1e-3"]);
    command.arg("--model").arg(golden(SET).join("policy"));
    command.arg("--data").arg(rows).arg("--output-dir").arg(output);
    command
}

/// The golden rollouts, copied: runs write beside their rows.
pub fn rollouts(dir: &Path) -> PathBuf {
    let rows = dir.join("rows.jsonl");
    fs::copy(golden(SET).join("rows.jsonl"), &rows).unwrap();
    rows
}

#[test]
fn every_method_goes_from_rollouts_to_a_policy_that_loads() {
    for method in OFFLINE {
        let dir = tempfile::tempdir().unwrap();
        let rows = rollouts(dir.path());
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let output = train_by(method, &rows, &first).args(["--max-steps", "3"]).output().unwrap();
        assert!(output.status.success(), "{method}: {}", stderr(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), first.join("final").display().to_string());
        let metrics = json_lines(&first.join("metrics.jsonl"));
        assert!(metrics.len() == 3 && metrics.iter().all(|row| row["loss"].is_f64()), "{method}");

        let mut logp = dqo();
        logp.args(["logp", "--device", "cpu", "--model"]).arg(first.join("final/policy"));
        logp.arg("--data").arg(&rows).arg("--output").arg(dir.path().join("logps.jsonl"));
        assert!(logp.status().unwrap().success());
        assert_eq!(json_lines(&dir.path().join("logps.jsonl")).len(), 7);
        let has_value = ["dqo", "dro"].contains(&method);
        assert_eq!(first.join("final/value").exists(), has_value, "{method}");
        if has_value {
            // The value network goes on in another run.
            let mut more = train_by(method, &rows, &dir.path().join("more"));
            more.args(["--max-steps", "1", "--value-model"]).arg(first.join("final/value"));
            assert!(more.output().unwrap().status.success());
        }

        // The recorded configuration repeats the run, beta included.
        let recorded = fs::read_to_string(first.join("config.toml")).unwrap();
        let beta = recorded.lines().find(|line| line.starts_with("beta")).map(str::to_owned);
        let expected = match method {
            "dqo" | "dro" => Some("beta = 0.03".to_owned()),
            "dpo" | "kto" => Some("beta = 0.1".to_owned()),
            "a2po" => Some("beta1 = 0.5".to_owned()),
            "grpo" => Some("beta = 0.04".to_owned()),
            _ => None,
        };
        assert_eq!(beta, expected, "{method}");
        let mut again = dqo();
        again.args(["train", "--config"]).arg(first.join("config.toml")).arg("--output-dir").arg(&second);
        assert!(again.output().unwrap().status.success());
        same_weights(&policy(&second), &policy(&first), 0.0, method);
    }
}

#[test]
fn a_resumed_run_of_pairs_or_mismatched_pairs_goes_on_to_the_bit() {
    for (method, device) in [("dpo", "cpu"), ("kto", "cpu"), ("dpo", "gpu"), ("kto", "gpu")] {
        if device == "gpu" && skip_gpu() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
        let rows = rollouts(dir.path());
        let run = |output: &Path| {
            let mut command = train_by(method, &rows, output);
            command.args(["--device", device, "--batch-size", "2", "--max-steps", "12", "--save-steps", "5"]);
            command.args([
                "--tokens-per-micro-batch",
                "30",
                "--lr-scheduler-type",
                "cosine",
                "--save-total-limit",
                "0",
            ]);
            command
        };
        assert!(run(&whole).output().unwrap().status.success());
        assert!(run(&cut).output().unwrap().status.success());
        // What a run leaves that is killed behind its first checkpoint, in the middle of the second epoch.
        for later in ["checkpoint-000010", "checkpoint-000012", "final"] {
            fs::remove_dir_all(cut.join(later)).unwrap();
        }
        assert!(run(&cut).arg("--resume").output().unwrap().status.success());
        let bytes = |output: &Path| fs::read(output.join("final/policy/model.safetensors")).unwrap();
        assert!(bytes(&whole) == bytes(&cut), "{method} on {device}");
        let losses = |output: &Path| -> Vec<Value> {
            json_lines(&output.join("metrics.jsonl")).into_iter().map(|mut row| row["loss"].take()).collect()
        };
        assert_eq!(losses(&whole), losses(&cut));
    }
}

/// kto's mismatched pairs follow from the steps, and the reference scores them all before the first one.
#[test]
fn a_run_of_kto_goes_on_to_the_step_it_was_begun_for() {
    for (method, allowed) in [("dpo", true), ("kto", false)] {
        let dir = tempfile::tempdir().unwrap();
        let (rows, output) = (rollouts(dir.path()), dir.path().join("out"));
        let run = |steps| {
            let mut command = train_by(method, &rows, &output);
            command.args(["--max-steps", steps]);
            command
        };
        assert!(run("2").output().unwrap().status.success());
        let mut longer = run("3");
        longer.arg("--resume");
        if allowed {
            assert!(longer.output().unwrap().status.success());
        } else {
            let config = output.join("config.toml");
            assert_eq!(
                error_of(&mut longer),
                format!("--resume: --max-steps is 2 in {} and 3 now; the run goes on as it began", config.display())
            );
        }
    }
}

/// Rows in a file, in a directory of its own.
struct Rows {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Rows {
    fn new(rows: &[Value]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        fs::write(&path, rows.iter().map(|row| row.to_string() + "\n").collect::<String>()).unwrap();
        Self { dir, path }
    }

    /// `train` by a method with more options.
    fn train(&self, method: &str, options: &[&str]) -> Command {
        let mut command = train_by(method, &self.path, &self.dir.path().join("out"));
        command.args(options);
        command
    }

    /// The error of it, without the data file's path; nothing is begun.
    #[track_caller]
    fn error(&self, method: &str, options: &[&str]) -> String {
        let message = error_of(&mut self.train(method, options));
        assert!(!self.dir.path().join("out").exists(), "a run was begun");
        message.replace(&self.path.display().to_string(), "rows.jsonl")
    }
}

fn response(prompt: u32, reward: Option<f64>) -> Value {
    json!({ "prompt_ids": [1, prompt], "completion_ids": [3, 4, prompt], "reward": reward })
}

fn pair() -> Value {
    json!({ "prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5, 6, 7] })
}

#[test]
fn rows_that_a_method_cannot_use_are_refused() {
    let good = [response(1, Some(1.0)), response(1, Some(0.0)), response(2, Some(1.0))];
    let rewardless = Rows::new(&[good[0].clone(), response(2, None)]);
    for method in ["rs", "kto", "dro", "a2po", "grpo"] {
        assert_eq!(
            rewardless.error(method, &[]),
            format!("rows.jsonl:2: field `reward`: is missing; {method} needs one in every row (or `label`)")
        );
    }
    assert_eq!(
        rewardless.error("dpo", &[]),
        "rows.jsonl:2: field `reward`: is missing; dpo needs one in every row (or `label`), or pairs of `chosen` and \
         `rejected`"
    );

    let no_pair = Rows::new(&[response(1, Some(1.0)), response(2, Some(0.5))]);
    assert_eq!(
        no_pair.error("dpo", &[]),
        "rows.jsonl: no prompt has both a right response (reward above 0.5) and a wrong one, so there is no pair to train \
         on; sample more responses a prompt, or give pairs of `chosen` and `rejected`"
    );
    let wrong = Rows::new(&[response(1, Some(0.0)), response(2, Some(0.5))]);
    assert_eq!(
        wrong.error("rs", &[]),
        "rows.jsonl: no row has a reward above 0.5, and rs trains on those alone; sample more responses"
    );

    assert_eq!(
        Rows::new(&good).error("kto", &["--batch-size", "1"]),
        "--batch-size is 1; kto compares the rows of a step with each other, so it must be at least 2"
    );
    assert_eq!(
        Rows::new(&good[..2]).error("kto", &[]),
        "rows.jsonl: every row has the same prompt; kto holds each prompt against a response to another one, so give rows \
         with at least 2 prompts"
    );
}

#[test]
fn pairs_are_for_dpo_alone_and_not_mixed_with_responses() {
    let pairs = Rows::new(&[pair(), pair()]);
    for method in OFFLINE.iter().filter(|method| **method != "dpo") {
        assert_eq!(
            pairs.error(method, &[]),
            format!(
                "rows.jsonl:1: a row with `chosen` and `rejected` is a pair, which only --method dpo takes; {method} needs \
                 one `completion` a row"
            )
        );
    }
    let mut logp = dqo();
    logp.args(["logp", "--device", "cpu", "--model"]).arg(golden(SET).join("policy"));
    logp.arg("--data").arg(&pairs.path).arg("--output").arg(pairs.dir.path().join("logps.jsonl"));
    assert!(error_of(&mut logp).ends_with("only --method dpo takes; logp needs one `completion` a row"));

    let form = "a file has either pairs (`chosen` and `rejected`) or responses (`completion`)";
    let mixed = Rows::new(&[response(1, Some(1.0)), pair()]);
    assert_eq!(mixed.error("dpo", &[]), format!("rows.jsonl:2: is a pair among responses; {form}"));
    let mixed = Rows::new(&[pair(), pair(), response(1, Some(1.0))]);
    assert_eq!(mixed.error("dpo", &[]), format!("rows.jsonl:3: is a response among pairs; {form}"));
}

#[test]
fn pairs_are_refused_by_field() {
    let changed = |changes: Value| {
        let mut pair = pair();
        pair.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        pair
    };
    let talk = |prompt: &str| json!([{"role": "user", "content": prompt}, {"role": "assistant", "content": "a"}]);
    let cases = [
        (json!({"rejected_ids": null}), "field `rejected`: is missing (or `rejected_ids`)"),
        (json!({"chosen_ids": []}), "field `chosen_ids`: is empty"),
        (json!({"chosen_ids": null, "chosen": ""}), "field `chosen`: is empty"),
        (json!({"chosen_ids": null, "chosen": 7}), "field `chosen`: is not text"),
        (
            json!({
                "chosen_ids": null, "chosen": talk("q"),
            }),
            "field `chosen`: is a list of 2 messages; one is expected",
        ),
        (json!({"prompt_ids": null}), "field `prompt`: is missing (or `prompt_ids`, or `messages`)"),
        (json!({"completion": "a"}), "has `chosen` and `completion`; a row is either a pair or a response"),
        (
            json!({"finish_reason": "length"}),
            "field `finish_reason`: a pair has two responses; give `chosen_ids` and `rejected_ids`, which get no end token",
        ),
        (
            json!({"rejected_ids": [5, 41]}),
            "field `rejected_ids`[1]: 41 is beyond the model's vocabulary of 41; were the rows made with another model?",
        ),
        (
            json!({
                "prompt_ids": null, "chosen_ids": null, "rejected_ids": null, "chosen": talk("q"),
                "rejected": talk("p"),
            }),
            "fields `chosen` and `rejected`: differ before their last message; a pair has one prompt",
        ),
    ];
    for (changes, expected) in cases {
        assert_eq!(Rows::new(&[pair(), changed(changes)]).error("dpo", &[]), format!("rows.jsonl:2: {expected}"));
    }
}

#[test]
fn pairs_are_read_as_other_trainers_write_them() {
    let file = |rows: &[Value]| {
        let rows = Rows::new(rows);
        let file = dqo_wgpu::data::RowFile::read(&rows.path).unwrap();
        assert!(file.paired && file.rows.len() == 2);
        file.rows.into_iter().map(|row| (row.prompt, row.completion)).collect::<Vec<_>>()
    };
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let (question, right, wrong) = (message("user", "q"), message("assistant", "a"), message("assistant", "b"));
    let messages = file(&[json!({"prompt": [question], "chosen": [right], "rejected": [wrong]})]);
    // Without a prompt, both sides are whole conversations.
    let whole = file(&[json!({"chosen": [question, right], "rejected": [question, wrong]})]);
    assert_eq!(messages, whole);
    assert_eq!(messages[1].1, dqo_wgpu::data::Text::Plain("b".to_owned()));
    let text = file(&[json!({"prompt": [question], "chosen": "a", "rejected": "b", "reward": 3})]);
    assert_eq!(messages, text);
}

#[test]
fn kto_says_what_it_does_with_responses_of_one_kind() {
    for (rewards, expected) in [
        (
            [1.0, 0.75],
            "every response is right (right is a reward above 0.5): kto makes all of them more likely, and no response of \
             the other kind holds against it",
        ),
        (
            [0.0, 0.5],
            "every response is wrong (right is a reward above 0.5): kto makes all of them less likely, and no response of \
             the other kind holds against it",
        ),
    ] {
        let rows = Rows::new(&[response(1, Some(rewards[0])), response(2, Some(rewards[1]))]);
        let output = rows.train("kto", &["--max-steps", "2"]).output().unwrap();
        let stderr = stderr(&output);
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains(&format!("warning: {}: {expected}\n", rows.path.display())), "{stderr}");
        let metrics = &json_lines(&rows.dir.path().join("out/metrics.jsonl"))[0];
        let (has, lacks) = if rewards[0] == 1.0 {
            ("rewards/chosen", "rewards/rejected")
        } else {
            ("rewards/rejected", "rewards/chosen")
        };
        assert!(metrics[has].is_number() && metrics.get(lacks).is_none() && metrics.get("rewards/margins").is_none());
    }
    let both = Rows::new(&[response(1, Some(1.0)), response(2, Some(0.0))]);
    let output = both.train("kto", &["--max-steps", "1"]).output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("warning"), "{}", stderr(&output));
}

/// A step whose rows have one prompt has no mismatched pair: z is 0 there. Another step of the run has some.
#[test]
fn a_step_of_one_prompt_has_z_0() {
    let rows: Vec<Value> = [2, 2, 2, 2, 2, 2, 2, 3].map(|prompt| response(prompt, Some(f64::from(prompt % 2)))).into();
    let rows = Rows::new(&rows);
    let options = ["--batch-size", "2", "--max-steps", "8", "--learning-rate", "0.5", "--optimizer", "sgd"];
    let output = rows.train("kto", &options).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let metrics = json_lines(&rows.dir.path().join("out/metrics.jsonl"));
    // In the second epoch the policy is not the reference any more. Of its four steps one has the other prompt.
    let second: Vec<bool> = metrics[4..].iter().map(|row| row["kl"] == json!(0)).collect();
    assert!(second.iter().filter(|zero| **zero).count() >= 3, "{second:?}");
}

#[test]
fn the_plan_counts_pairs_and_what_is_left_out() {
    let rows = golden(SET).join("rows.jsonl");
    let expected = BTreeMap::from([
        ("dqo", (7, 0)),
        ("dro", (7, 0)),
        ("dpo", (3, 2)),
        ("kto", (7, 0)),
        ("a2po", (7, 0)),
        ("grpo", (7, 0)),
        ("sft", (7, 0)),
        ("rs", (3, 4)),
    ]);
    for (method, (count, left_out)) in expected {
        let mut command = dqo();
        command.args(["plan", "--json", "--device", "cpu", "--method", method, "--model"]);
        command.arg(golden(SET).join("policy")).arg("--data").arg(&rows);
        let output = command.output().unwrap();
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&plan["rows"], &plan["dropped_rows"]), (&json!(count), &json!(left_out)), "{method}");
    }
    // Without data: the fullest micro-batch of each, a pair being two sequences.
    for method in OFFLINE {
        let mut command = dqo();
        command.args(["plan", "--json", "--device", "cpu", "--method", method, "--max-length", "33"]);
        command.args(["--tokens-per-micro-batch", "200", "--model"]).arg(golden(SET).join("policy"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{method}: {}", stderr(&output));
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(plan["micro_batch_tokens"], json!(200), "{method}");
    }
    let few = Rows::new(&[response(1, Some(1.0)), response(1, Some(0.0)), response(1, Some(0.0))]);
    let output = few.train("dpo", &["--max-pairs-per-prompt", "1"]).output().unwrap();
    assert!(stderr(&output).contains("rows        1; 1 of the data left out\n"), "{}", stderr(&output));
}

/// A prompt's responses are compared with each other alone: other prompts' rewards say nothing.
#[test]
fn responses_that_are_worth_the_same_within_each_prompt_are_told() {
    let alike = [response(1, Some(1.0)), response(2, Some(0.0)), response(1, Some(1.0)), response(2, Some(0.0))];
    let apart = [response(1, Some(1.0)), response(2, Some(0.0)), response(1, Some(0.5)), response(2, Some(0.0))];
    for method in ["a2po", "grpo"] {
        for (rows, is_told) in [(&alike, true), (&apart, false)] {
            let rows = Rows::new(rows);
            let output = rows.train(method, &["--max-steps", "1", "--batch-size", "4"]).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            let told = stderr(&output).contains("no prompt has responses of different rewards");
            assert_eq!(told, is_told, "{method}");
            let metrics = &json_lines(&rows.dir.path().join("out/metrics.jsonl"))[0];
            // Before the first step the policy is the reference, and what is left of the loss are the advantages.
            let expected = match (method, is_told) {
                ("a2po", false) => {
                    let optimal = 0.5 * ((2f64.exp() + 1f64.exp()) / 2.0).ln();
                    ((1.0 - optimal).powi(2) + (0.5 - optimal).powi(2)) / 4.0
                }
                _ => 0.0,
            };
            // A log-ratio that is 0 but for rounding, and a square of the CPU device's f32.
            assert!((metrics["loss"].as_f64().unwrap() - expected).abs() < 1e-6, "{method}: {metrics}");
        }
    }
}
