//! PPO: a step against PyTorch, rounds that make a policy better, cut and resumed runs, bad input.
//! The goldens are made by tools/goldens/ppo.py.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::grade::Task;
use dqo_wgpu::objective::Scored;
use dqo_wgpu::objective::ppo::{Estimate, Estimation, whiten};
use dqo_wgpu::train::{OptimizerType, Outcome, Watch};
use serde_json::{Value, json};

use crate::command::{dqo, error_of};
use crate::harness::skip_gpu;
use crate::model::{floats, golden, json_lines};
use crate::resume::{interrupted, result, steps_done, until_caught};
use crate::training::{compare_step, config, devices, open, tensors, train, with};
use crate::whole_loop::{asset, done, problems, verb, with_model};

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}"))
}

#[test]
fn advantages_and_returns_are_those_of_the_golden() {
    let set = golden("ppo");
    let (rows, scores) = (json_lines(&set.join("round.jsonl")), tensors(&set.join("round.safetensors")));
    for case in json_lines(&set.join("cases.jsonl")) {
        let setting = |name: &str| number(&case["settings"], name);
        let estimation = Estimation { beta: setting("beta"), lambda: setting("lambda") };
        let (mut advantages, mut returns, mut first) = (Vec::new(), Vec::new(), 0);
        for row in &rows {
            let range = first..first + row["completion_ids"].as_array().unwrap().len();
            first = range.end;
            let scored = Scored {
                logps_old: &scores["logps_old"][range.clone()],
                logps_ref: &scores["logps_ref"][range.clone()],
                values_old: &scores["values_old"][range],
                reward: number(row, "reward"),
            };
            for Estimate { advantage, target } in estimation.estimate(scored) {
                advantages.push(advantage);
                returns.push(target);
            }
        }
        whiten(&mut advantages);
        for (found, expected) in [(advantages, &case["advantages"]), (returns, &case["returns"])] {
            let off = found.iter().zip(floats(expected)).map(|(found, expected)| (found - expected).abs());
            // Both sides are sums of some tens of terms in f64.
            assert!(off.fold(0.0, f64::max) <= 1e-12, "{}", case["case"]);
        }
    }
}

/// The settings of a golden case: a round of four rows, a step an epoch, and a first step that moves nothing.
fn golden_run(case: &Value, output: &Path) -> Value {
    let set = golden("ppo");
    let setting = |name: &str| number(&case["settings"], name);
    with(
        config(&set, "problems.jsonl", output),
        json!({
            "method": "ppo", "task": Task::Gsm8k,
            "ref_model": set.join("reference").to_str().unwrap().to_owned(), "beta": setting("beta"),
            "lambda": setting("lambda"), "clip_range": setting("clip_range"),
            "value_clip_range": setting("value_clip_range"), "rollouts_per_round": 4, "max_new_tokens": 20,
            "optimizer": OptimizerType::Sgd, "learning_rate": 1.0, "max_grad_norm": 0.0, "max_steps": 2,
            "warmup_ratio": 0.5, "save_steps": 1, "save_total_limit": 0,
        }),
    )
}

/// A run samples its own round and makes a step of learning rate 0 on it; the golden's round is put in its place, and the
/// run goes on in the middle of it.
#[test]
fn a_step_of_ppo_is_autograds() {
    let set = golden("ppo");
    for case in json_lines(&set.join("cases.jsonl")) {
        let name = case["case"].as_str().unwrap();
        let gradients = tensors(&set.join(format!("{name}.safetensors")));
        for (device, dtype) in devices() {
            let label = format!("{name} on {}", device.description());
            let output = tempfile::tempdir().unwrap();
            let config = with(golden_run(&case, output.path()), json!({"dtype": dtype}));
            let first = &train(config.clone(), &device)[0];
            assert_eq!(["approx_kl", "clip_frac"].map(|name| number(first, name)), [0.0, 0.0], "{label}");
            assert_eq!(number(first, "ratio/mean"), 1.0, "{label}");

            fs::remove_dir_all(output.path().join("checkpoint-000002")).unwrap();
            for extension in ["jsonl", "safetensors"] {
                let kept = output.path().join(format!("rollouts/round-000001.{extension}"));
                assert!(kept.exists());
                fs::copy(set.join(format!("round.{extension}")), kept).unwrap();
            }
            let run = open(&config, &device);
            run.train(true, Watch::silent(&AtomicBool::new(false))).unwrap();

            let metrics = json_lines(&output.path().join("metrics.jsonl"));
            for (name, expected) in case["metrics"].as_object().unwrap() {
                let (found, expected) = (number(&metrics[1], name), expected.as_f64().unwrap());
                assert!(
                    (found - expected).abs() <= 1e-4 * expected.abs(),
                    "{label}: {name} is {found}, not {expected}"
                );
            }
            for part in ["policy", "value"] {
                let after = output.path().join("final").join(part);
                let files = [set.join(part), after].map(|dir| dir.join("model.safetensors"));
                compare_step((&files[0], &files[1]), &format!("{part}."), &gradients, &label);
            }
        }
    }
}

/// PPO on the demo's sums.
fn ppo(data: &Path, output: &Path) -> Command {
    let mut command = with_model("train", data);
    command.args(["--method", "ppo", "--save-steps", "0"]).arg("--output-dir").arg(output);
    command
}

#[test]
fn rounds_make_the_policy_better() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let mut command = ppo(&asset("train.jsonl"), &output);
    command.args(["--tokens-per-micro-batch", "4096", "--eval-batch-size", "128", "--num-train-epochs", "2"]);
    done(command.args(["--learning-rate", "1e-4", "--value-learning-rate", "1e-3"]));

    let metrics = json_lines(&output.join("metrics.jsonl"));
    // Rounds of 256, 256 and 88 responses; four epochs of 4, 4 and 2 steps.
    assert_eq!(metrics.len(), 16 + 16 + 8);
    let of_round = |round: usize| metrics.iter().find(|row| number(row, "round") as usize == round).unwrap();
    for round in 1..=3 {
        let first = of_round(round);
        assert_eq!((number(first, "ratio/mean"), number(first, "approx_kl")), (1.0, 0.0));
        let rows = json_lines(&output.join(format!("rollouts/round-{round:06}.jsonl")));
        assert_eq!(rows.len(), [256, 256, 88][round - 1]);
        let mean = rows.iter().map(|row| number(row, "reward")).sum::<f64>() / rows.len() as f64;
        assert!((mean - number(first, "rewards/mean")).abs() < 1e-12);
    }
    assert_eq!(number(of_round(1), "kl"), 0.0);
    assert!(number(of_round(3), "kl") > 0.0 && number(&metrics[39], "epoch") == 2.0);

    // Every problem once a pass, in rows as `sample` writes them.
    let rows = json_lines(&output.join("rollouts/round-000001.jsonl"));
    let names: Vec<_> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["prompt", "completion", "reward", "answer", "prompt_ids", "completion_ids", "behavior_logps", "finish_reason"];
    assert_eq!(names, [&expected[..], &["problem", "sample"]].concat());
    let first_pass: std::collections::BTreeSet<_> = rows.iter().map(|row| row["problem"].as_u64().unwrap()).collect();
    assert_eq!(first_pass.len(), 256);

    let values = dir.path().join("values.jsonl");
    let mut command = dqo();
    command.args(["values", "--device", "cpu", "--value"]).arg(output.join("final/value"));
    command.arg("--data").arg(output.join("rollouts/round-000003.jsonl"));
    done(command.arg("--output").arg(&values));
    assert_eq!(json_lines(&values).len(), 88);

    let sampled = |model: &Path| {
        let mut eval = verb("eval", &asset("test.jsonl"));
        eval.args(["--json", "--sample", "--top-k", "0", "--top-p", "1", "--min-prob", "0", "--max-new-tokens", "48"]);
        let summary: Value = serde_json::from_str(&done(eval.arg("--model").arg(model))).unwrap();
        number(&summary, "accuracy")
    };
    let (before, after) = (sampled(&asset("model")), sampled(&output.join("final/policy")));
    // 400 sums: the standard error of the difference is at most 0.036.
    assert!(after > before + 0.1, "{before} before, {after} after");
}

/// Three rounds of 4 steps, with everything that has a state.
pub fn short_run(data: &Path, output: &Path, device: &str) -> Command {
    let mut command = ppo(data, output);
    command.args(["--device", device, "--batch-size", "8", "--rollouts-per-round", "16", "--num-samples", "2"]);
    command.args(["--ppo-epochs", "2", "--tokens-per-micro-batch", "200", "--max-steps", "12", "--lambda", "0.95"]);
    command.args(["--learning-rate", "3e-4"]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The files of a short run's rounds.
pub fn rounds(output: &Path) -> Vec<Vec<u8>> {
    let of_round = |round| ["jsonl", "safetensors"].map(|kind| format!("rollouts/round-{round:06}.{kind}"));
    (1..=3).flat_map(of_round).map(|name| fs::read(output.join(name)).unwrap()).collect()
}

/// A run's result, and its rounds.
fn outcome(output: &Path) -> (Vec<Vec<u8>>, Vec<Value>) {
    let (weights, metrics) = result(output);
    ([weights, rounds(output)].concat(), metrics)
}

#[cfg(unix)]
fn cut_and_resumed(device: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 20);
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    assert!(short_run(&data, &whole, device).status().unwrap().success());
    assert_eq!(steps_done(&whole), 12);
    let resumed = |more: &[&str]| {
        let mut command = short_run(&data, &cut, device);
        command.arg("--resume").args(more);
        command
    };

    // While the first round is sampled.
    let mut child = short_run(&data, &cut, device).spawn().unwrap();
    if !interrupted(&mut child, "INT", || cut.join("metrics.jsonl").exists()) {
        return false;
    }
    // Wherever the signal finds it in the first round.
    let mut child = resumed(&[]).spawn().unwrap();
    if !interrupted(&mut child, "TERM", || steps_done(&cut) >= 1) {
        return false;
    }
    // In the middle of the second round, and of an epoch; after it; and once more while it goes on from there.
    for steps in ["7", "8"] {
        assert!(resumed(&["--max-steps", steps]).status().unwrap().success());
        assert_eq!(steps_done(&cut).to_string(), steps);
    }
    let mut child = resumed(&[]).spawn().unwrap();
    if !interrupted(&mut child, "INT", || cut.join("rollouts/round-000003.jsonl").exists()) {
        return false;
    }
    assert!(resumed(&[]).status().unwrap().success());
    assert!(outcome(&whole) == outcome(&cut), "the cuts changed the run");
    true
}

#[cfg(unix)]
#[test]
fn a_cut_run_goes_on_to_the_bit_on_the_cpu() {
    until_caught(|| cut_and_resumed("cpu"));
}

#[cfg(unix)]
#[test]
fn a_cut_run_goes_on_to_the_bit_on_the_gpu() {
    if !skip_gpu() {
        until_caught(|| cut_and_resumed("gpu"));
    }
}

#[test]
fn a_recorded_configuration_repeats_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 20);
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    assert!(short_run(&data, &first, "cpu").status().unwrap().success());
    let recorded: toml::Table = fs::read_to_string(first.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!(recorded["rollouts_per_round"].as_integer(), Some(16));
    let mut command = dqo();
    done(command.args(["train", "--config"]).arg(first.join("config.toml")).arg("--output-dir").arg(&second));
    assert!(outcome(&first) == outcome(&second));
}

#[test]
fn sampling_stops_at_once_and_what_is_planned_is_allocated() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let config = json!({
        "method": "ppo", "task": Task::Gsm8k, "model": asset("model").to_str().unwrap().to_owned(),
        "data": problems(dir.path(), 10), "eval_data": asset("test.jsonl"), "output_dir": output.clone(),
        "batch_size": 4, "max_new_tokens": 48, "ppo_epochs": 1, "tokens_per_micro_batch": 100, "max_steps": 1,
    });
    let device = Device::cpu(Precision::F32);
    let outcome = open(&config, &device).train(false, Watch::silent(&AtomicBool::new(true))).unwrap();
    assert_eq!(outcome, Outcome::Interrupted(Some(0)));
    assert!(output.join("checkpoint-000000/policy").exists() && !output.join("rollouts").exists());
    let run = open(&config, &device);
    let plan = run.plan().unwrap();
    assert_eq!((plan.rounds, plan.steps, plan.rows), (Some(1), Some(1), Some(16)));
    assert!(plan.buffers.iter().any(|buffer| buffer.name.starts_with("reference/")));
    run.train(true, Watch::silent(&AtomicBool::new(false))).unwrap();
    let metrics = json_lines(&output.join("metrics.jsonl"));
    assert_eq!(metrics[0]["peak_memory_bytes"].as_u64().unwrap(), plan.peak_bytes);
    assert_eq!(device.peak_bytes(), plan.peak_bytes);
}

#[test]
fn bad_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (data, output) = (dir.path().join("problems.jsonl"), dir.path().join("out"));
    let good = "{\"prompt\": \"Q: 1+1\\nA: \", \"answer\": \"2\"}";
    let error = |command: &mut Command| {
        let message = error_of(command);
        assert!(!output.exists(), "a run was begun");
        message.replace(&format!("{}/", dir.path().display()), "")
    };
    fs::write(&data, good).unwrap();
    let mut command = dqo();
    command.args(["train", "--method", "ppo", "--device", "cpu", "--data"]).arg(&data);
    command.arg("--model").arg(asset("model")).arg("--output-dir").arg(&output);
    let no_task = "ppo without a task: it grades what it samples; give --task gsm8k or math";
    assert_eq!(error(&mut command), no_task);

    for (options, expected) in [
        (&["--task", "none"][..], no_task),
        (
            &["--batch-size", "8", "--rollouts-per-round", "4"],
            "--rollouts-per-round is 4, and --batch-size 8; a step's rows are of one round, so give at least as many",
        ),
        (
            &["--batch-size", "2", "--rollouts-per-round", "8", "--num-samples", "3"],
            "--rollouts-per-round is 8, which is not a multiple of --num-samples, 3",
        ),
        (
            &["--truncated", "bootstrap"],
            "--truncated is not an option of ppo; it is one of dqo, dro, dpo, kto, a2po, grpo, sft, rs",
        ),
        (
            &["--max-length", "40"],
            "--max-length is 40, and the longest prompt (10 tokens) with a response of up to 48 (--max-new-tokens) has \
             58; set --max-length 58",
        ),
        (&["--ppo-epochs", "0"], "--ppo-epochs is 0; it must be at least 1"),
        (&["--num-samples", "0"], "--num-samples is 0; it must be at least 1"),
        (&["--clip-range", "0"], "--clip-range is 0, which is out of its range"),
        (&["--value-clip-range", "inf"], "--value-clip-range is inf, which is out of its range"),
    ] {
        assert_eq!(error(ppo(&data, &output).args(options)), expected);
    }

    let long = format!("{{\"prompt\": \"{}\", \"answer\": \"2\"}}", "1".repeat(200));
    for (line, expected) in [
        ("{\"prompt\": \"1+1\"}", "problems.jsonl:2: field `answer`: is missing, and is needed to grade"),
        (
            long.as_str(),
            "problems.jsonl:2: the prompt has 200 tokens, and the model's context of 128 leaves no room for a response",
        ),
    ] {
        fs::write(&data, format!("{good}\n{line}\n")).unwrap();
        assert_eq!(error(&mut ppo(&data, &output)), expected);
    }
}

#[test]
fn a_round_that_is_not_the_runs_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 20);
    let output = dir.path().join("out");
    assert!(short_run(&data, &output, "cpu").args(["--max-steps", "2"]).status().unwrap().success());
    let rows = output.join("rollouts/round-000001.jsonl");
    let text = fs::read_to_string(&rows).unwrap();
    fs::write(&rows, text.replacen("\"sample\":0", "\"sample\":7", 1)).unwrap();
    let resume = || {
        let mut command = short_run(&data, &output, "cpu");
        error_of(command.arg("--resume").stderr(Stdio::piped())).replace(&format!("{}/", output.display()), "")
    };
    let expected = "rollouts/round-000001.safetensors: was made of other rows than rollouts/round-000001.jsonl has; a run \
                    goes on with the rows it sampled";
    assert_eq!(resume(), expected);
    fs::write(&rows, text.lines().skip(1).flat_map(|line| [line, "\n"]).collect::<String>()).unwrap();
    let expected = "rollouts/round-000001.jsonl: has 15 rows, and the round 16; a run goes on as it began";
    assert_eq!(resume(), expected);
    fs::remove_file(&rows).unwrap();
    assert!(resume().starts_with("rollouts/round-000001.jsonl: cannot be read: "));
}

#[test]
fn a_run_that_diverges_names_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 20);
    let diverging = |output: &Path, more: &[&str]| {
        let mut command = short_run(&data, output, "cpu");
        let message = error_of(command.args(["--learning-rate", "1e30"]).args(more).stderr(Stdio::piped()));
        message.replace(&format!("{}/", output.display()), "")
    };
    let message = diverging(&dir.path().join("in"), &[]);
    assert!(message.starts_with("step 2: the loss is not finite, with the rows on lines "), "{message}");
    assert!(message.contains(" of rollouts/round-000001.jsonl in it; the weights are as they were"), "{message}");
    // A round of one step: the rows are those of the next one, which was sampled with what the step had left.
    let message = diverging(&dir.path().join("between"), &["--ppo-epochs", "1", "--batch-size", "16"]);
    assert!(message.starts_with("step 2: the loss is not finite, with the rows on lines 1, 2, "), "{message}");
    assert!(message.contains(" of rollouts/round-000002.jsonl in it; "), "{message}");
}

/// Without data, prompts are assumed that leave room for the longest responses.
#[test]
fn a_plan_needs_no_data() {
    let mut command = dqo();
    command.args(["plan", "--method", "ppo", "--device", "cpu", "--json", "--max-length", "100", "--batch-size", "4"]);
    command.args(["--max-new-tokens", "48", "--tokens-per-micro-batch", "150"]).arg("--model").arg(asset("model"));
    let plan: Value = serde_json::from_str(&done(&mut command)).unwrap();
    assert_eq!(plan["assumed"], "no --data: prompts of up to 52 tokens");
    assert_eq!((&plan["rows"], &plan["steps"], &plan["micro_batch_tokens"]), (&Value::Null, &Value::Null, &150.into()));
}

/// The reference is the base with the adapters off: it is not there twice.
#[test]
fn with_adapters_the_reference_shares_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 4);
    let settings = ["--rollouts-per-round", "4", "--batch-size", "4", "--max-steps", "5", "--lora-r", "2"];
    let plan = done(
        verb("plan", &data)
            .args(["--method", "ppo", "--max-new-tokens", "8", "--json", "--model"])
            .arg(asset("model"))
            .args(settings),
    );
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let has = |part: &str| {
        plan["buffers"].as_array().unwrap().iter().any(|buffer| buffer["name"].as_str().unwrap().starts_with(part))
    };
    assert!(has("base/weights") && has("reference/activations") && !has("reference/weights"));

    let output = dir.path().join("out");
    done(ppo(&data, &output).args(settings));
    let rows = json_lines(&output.join("metrics.jsonl"));
    // The first round is sampled from the reference; the second from what its four epochs have made of the policy.
    assert_eq!((number(&rows[0], "kl"), rows.len()), (0.0, 5));
    assert!(number(&rows[4], "kl") != 0.0);
    assert!(output.join("final/policy/adapter_model.safetensors").exists());
}
