//! The verbs around training, on the demo's model: from problems to an evaluated policy.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::command::{copy_dir, dqo, error_of, stderr};
use crate::harness::skip_gpu;
use crate::model::{floats, json_lines};
use crate::pages::check_everywhere;

pub fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo").join(name)
}

/// A copy of the demo's model that a test may damage.
pub fn model_in(dir: &Path) -> PathBuf {
    let model = dir.join("model");
    copy_dir(&asset("model"), &model);
    model
}

/// Runs a verb on the CPU device to its end; what it printed.
#[track_caller]
pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A verb with the demo's model.
pub fn verb(name: &str, data: &Path) -> Command {
    let mut command = dqo();
    command.args([name, "--device", "cpu", "--task", "gsm8k"]);
    command.arg("--data").arg(data);
    command
}

pub fn with_model(name: &str, data: &Path) -> Command {
    let mut command = verb(name, data);
    command.arg("--model").arg(asset("model")).args(["--max-new-tokens", "48"]);
    command
}

const WHOLE: [&str; 6] = ["--top-k", "0", "--top-p", "1", "--min-prob", "0"];

pub fn sample(data: &Path, output: &Path, more: &[&str]) -> Command {
    let mut command = with_model("sample", data);
    command.args(WHOLE).args(["--num-samples", "3"]).args(more).arg("--output").arg(output);
    command
}

/// The first problems of the demo's.
pub fn problems(dir: &Path, count: usize) -> PathBuf {
    let text = std::fs::read_to_string(asset("train.jsonl")).unwrap();
    let path = dir.join("problems.jsonl");
    std::fs::write(&path, text.lines().take(count).flat_map(|line| [line, "\n"]).collect::<String>()).unwrap();
    path
}

#[test]
fn a_problem_has_the_same_rows_in_any_company() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 64);
    let together = dir.path().join("together.jsonl");
    done(&mut sample(&data, &together, &["--batch-size", "64"]));
    let together = json_lines(&together);
    assert_eq!(together.len(), 64 * 3);

    // Alone: its line is its own, whatever stands before it.
    let text = std::fs::read_to_string(&data).unwrap();
    let alone = dir.path().join("problem.jsonl");
    std::fs::write(&alone, "\n".repeat(40) + text.lines().nth(40).unwrap()).unwrap();
    let devices: &[&str] = if skip_gpu() { &["cpu"] } else { &["cpu", "gpu"] };
    for device in devices {
        let output = dir.path().join(format!("{device}.jsonl"));
        done(&mut sample(&alone, &output, &["--batch-size", "1", "--device", device]));
        for (row, expected) in json_lines(&output).iter().zip(&together[40 * 3..]) {
            assert_eq!(row["completion_ids"], expected["completion_ids"], "{device}");
            let (logps, expected) = (floats(&row["behavior_logps"]), floats(&expected["behavior_logps"]));
            // Another shape of the products sums in another order.
            assert!(logps.iter().zip(expected).all(|(logp, expected)| (logp - expected).abs() <= 1e-4), "{device}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_killed_sample_goes_on_to_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let data = asset("train.jsonl");
    let (whole, cut) = (dir.path().join("whole.jsonl"), dir.path().join("cut.jsonl"));
    done(&mut sample(&data, &whole, &[]));
    let rows = || std::fs::read_to_string(&cut).unwrap_or_default().lines().count();
    let mut kills = 0;
    for stop_at in [50, 300, 600] {
        let resume: &[&str] = if kills > 0 { &["--resume"] } else { &[] };
        let mut child = sample(&data, &cut, resume).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while rows() < stop_at && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(120), "sampling stands still");
            std::thread::sleep(Duration::from_millis(2));
        }
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0, "the run was never caught");
    done(&mut sample(&data, &cut, &["--resume"]));
    assert_eq!(json_lines(&whole).len(), 900);
    assert_same_rows(&cut, &whole);
}

/// Two files of rollouts with the same rows. The log-probs of a response that stood in other company may be summed in another
/// order.
#[track_caller]
pub fn assert_same_rows(found: &Path, expected: &Path) {
    let (found, expected) = (json_lines(found), json_lines(expected));
    assert_eq!(found.len(), expected.len());
    for (mut found, mut expected) in found.into_iter().zip(expected) {
        let logps = [&mut found, &mut expected].map(|row| floats(&row["behavior_logps"].take()));
        assert!(logps[0].iter().zip(&logps[1]).all(|(found, expected)| (found - expected).abs() <= 1e-4));
        assert_eq!(found, expected);
    }
}

#[test]
fn from_problems_to_an_evaluated_policy() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let data = problems(dir.path(), 16);
    let rollouts = path("rollouts.jsonl");
    let summary: Value = serde_json::from_str(&done(&mut sample(&data, &rollouts, &["--json"]))).unwrap();
    let rows = json_lines(&rollouts);
    let right = rows.iter().filter(|row| row["reward"] == 1.0).count();
    assert_eq!((summary["rows"].as_u64(), summary["right"].as_u64()), (Some(48), Some(right as u64)));
    assert!((5..43).contains(&right), "{right} of 48 are right");

    // The log-probs that were recorded are those of the finished row, and grading finds the same rewards again.
    let logps = path("logps.jsonl");
    done(
        dqo()
            .args(["logp", "--device", "cpu", "--model"])
            .arg(asset("model"))
            .arg("--data")
            .arg(&rollouts)
            .arg("--output")
            .arg(&logps),
    );
    for (row, scored) in rows.iter().zip(json_lines(&logps)) {
        let (recorded, scored) = (floats(&row["behavior_logps"]), floats(&scored["logps"]));
        assert!(recorded.iter().zip(scored).all(|(recorded, scored)| (recorded - scored).abs() <= 1e-4));
    }
    let (ungraded, graded) = (path("ungraded.jsonl"), path("graded.jsonl"));
    let without_reward = |row: &Value| {
        let mut row = row.clone();
        row.as_object_mut().unwrap().remove("reward");
        row.to_string() + "\n"
    };
    std::fs::write(&ungraded, rows.iter().map(without_reward).collect::<String>()).unwrap();
    done(dqo().args(["grade", "--task", "gsm8k", "--data"]).arg(&ungraded).arg("--output").arg(&graded));
    assert!(json_lines(&graded).iter().zip(&rows).all(|(graded, row)| graded["reward"] == row["reward"]));

    let scored = path("scored.jsonl");
    done(with_model("process-reward", &rollouts).args(WHOLE).args(["--num-samples", "8", "--output"]).arg(&scored));
    check_process_rewards(&json_lines(&scored));

    let run = path("run");
    let mut train = verb("train", &scored);
    train.args(["--method", "dqo", "--num-train-epochs", "2", "--batch-size", "16", "--learning-rate", "1e-4"]);
    train.args(["--max-new-tokens", "48", "--eval-steps", "3", "--model"]).arg(asset("model"));
    done(train.arg("--eval-data").arg(asset("test.jsonl")).arg("--output-dir").arg(&run));
    let evaluated = |row: &Value| row["eval/accuracy"].as_f64();
    let accuracies: Vec<f64> = json_lines(&run.join("metrics.jsonl")).iter().filter_map(evaluated).collect();
    assert_eq!(accuracies.len(), 2);

    // The kept policy is as good as the best of the run's evaluations.
    let predictions = path("predictions.jsonl");
    let mut eval = verb("eval", &asset("test.jsonl"));
    eval.args(["--json", "--max-new-tokens", "48", "--model"]).arg(run.join("best/policy"));
    let summary: Value = serde_json::from_str(&done(eval.arg("--output").arg(&predictions))).unwrap();
    assert_eq!(summary["accuracy"].as_f64().unwrap(), accuracies.iter().copied().fold(0.0, f64::max));
    check_predictions(&json_lines(&predictions), &summary);

    let values = path("values.jsonl");
    let page = path("values.html");
    for output in [&values, &page] {
        let mut command = dqo();
        command.args(["values", "--device", "cpu", "--value"]).arg(run.join("final/value"));
        let said = done(command.arg("--data").arg(&scored).arg("--output").arg(output));
        assert!(said.contains("against their process rewards: Pearson's correlation "), "{said}");
    }
    check_values(&json_lines(&values), &json_lines(&scored));
    let report = path("report.html");
    done(dqo().arg("report").arg(&run).arg("--output").arg(&report));
    for (page, text) in [(page, "Values along responses"), (report, "eval/accuracy")] {
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.contains(text));
    }
}

/// A right response's segments share 1; a wrong one's have 1/n up to the last right one, and 0 after it.
fn check_process_rewards(rows: &[Value]) {
    let mut with_right_steps = 0;
    for row in rows {
        let steps = row["step_rewards"].as_array().unwrap();
        let rewards: Vec<f64> = steps.iter().map(|step| step["reward"].as_f64().unwrap()).collect();
        let ends: Vec<u64> = steps.iter().map(|step| step["end"].as_u64().unwrap()).collect();
        let blank_lines = row["completion"].as_str().unwrap().matches("\n\n").count();
        assert_eq!(steps.len(), blank_lines + 1);
        assert!(ends.is_sorted() && ends.last() == Some(&(row["completion_ids"].as_array().unwrap().len() as u64)));
        let worth = 1.0 / steps.len() as f64;
        let right = rewards.iter().take_while(|reward| (**reward - worth).abs() < 1e-12).count();
        assert!(rewards[right..].iter().all(|reward| *reward == 0.0), "{rewards:?}");
        let all = row["reward"] == 1.0;
        assert_eq!(all, right == steps.len(), "{row}");
        with_right_steps += usize::from(!all && right > 0);
    }
    assert!(with_right_steps > 0, "no wrong response had a right step");
}

fn check_predictions(predictions: &[Value], summary: &Value) {
    let problems = json_lines(&asset("test.jsonl"));
    assert_eq!(predictions.len(), problems.len());
    let mut right = 0;
    for (prediction, problem) in predictions.iter().zip(&problems) {
        assert_eq!(prediction["prompt"], problem["prompt"]);
        assert_eq!(prediction["correct"], prediction["answer"] == problem["answer"]);
        right += usize::from(prediction["correct"] == true);
    }
    assert_eq!(summary["by_seed"]["42"]["right"].as_u64(), Some(right as u64));
}

/// At lambda 1 an advantage is the reward that is still to come, less V.
fn check_values(rows: &[Value], scored: &[Value]) {
    assert_eq!(rows.len(), scored.len());
    for (row, scored) in rows.iter().zip(scored) {
        let (values, advantages) = (floats(&row["values"]), floats(&row["advantages"]));
        assert_eq!(values.len(), scored["completion_ids"].as_array().unwrap().len());
        let steps = scored["step_rewards"].as_array().unwrap();
        let steps = steps.iter().map(|step| (step["end"].as_u64().unwrap() as usize, step["reward"].as_f64().unwrap()));
        for (t, (value, advantage)) in values.iter().zip(&advantages).enumerate() {
            let to_come: f64 = steps.clone().filter(|(end, _)| *end > t).map(|(_, reward)| reward).sum();
            assert!((advantage - (scored["reward"].as_f64().unwrap() + to_come - value)).abs() < 1e-9);
        }
        for (segment, (end, reward)) in row["segments"].as_array().unwrap().iter().zip(steps.clone()) {
            assert_eq!(segment["end"].as_u64(), Some(end as u64));
            assert_eq!(segment["value"].as_f64().unwrap(), values[end.min(values.len() - 1)]);
            assert!((segment["process_reward"].as_f64().unwrap() - reward * steps.len() as f64).abs() < 1e-12);
        }
    }
}

#[test]
pub fn sampled_evaluations_give_mean_and_standard_error() {
    let mut eval = verb("eval", &asset("test.jsonl"));
    eval.args(["--json", "--sample", "--num-seeds", "3", "--max-problems", "40", "--max-new-tokens", "48"]).args(WHOLE);
    let summary: Value = serde_json::from_str(&done(eval.arg("--model").arg(asset("model")))).unwrap();
    let by_seed: Vec<f64> =
        summary["by_seed"].as_object().unwrap().values().map(|score| score["accuracy"].as_f64().unwrap()).collect();
    let mean = by_seed.iter().sum::<f64>() / 3.0;
    let error = (by_seed.iter().map(|accuracy| (accuracy - mean).powi(2)).sum::<f64>() / 2.0 / 3.0).sqrt();
    assert!((summary["accuracy"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!((summary["standard_error"].as_f64().unwrap() - error).abs() < 1e-12 && error > 0.0, "{summary}");
}

#[test]
fn generate_writes_the_response_as_it_grows() {
    let generate = |more: &[&str]| {
        let mut command = dqo();
        command.args(["generate", "--device", "cpu", "--temperature", "0", "--max-new-tokens", "48", "--model"]);
        done(command.arg(asset("model")).args(more))
    };
    let text = generate(&["--prompt", "12+34"]);
    assert_eq!(text.trim_end(), "2+4+0=6\n\n1+3+0=4\n\n#### 46");
    let object: Value = serde_json::from_str(&generate(&["--prompt", "Q: 12+34\nA: ", "--raw", "--json"])).unwrap();
    assert_eq!((&object["completion"], &object["finish_reason"]), (&json!(text.trim_end()), &json!("stop")));
}

/// Three seeds of three: more than two standard errors better.
#[test]
fn the_demo_makes_the_policy_better() {
    let dir = tempfile::tempdir().unwrap();
    for seed in ["1", "2", "3"] {
        let output = dir.path().join(seed);
        let said = done(dqo().args(["demo", "--device", "cpu", "--seed", seed, "--output-dir"]).arg(&output));
        let line = said.lines().find(|line| line.trim_start().starts_with("sampled")).unwrap();
        let number = |text: &str| text.parse::<f64>().unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let (change, error) = (number(words[5]), number(words[7]));
        assert!(change > 2.0 * error && error > 0.0, "{said}");
        let page = std::fs::read_to_string(output.join("report.html")).unwrap();
        assert!(page.contains("values/mean") && page.contains("data-right=\"wrong\""));
        let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
        assert!(place("V falls at the slip.") < place("before training to") && page.contains("first wrong step</b>"));
        assert!(place("<h2>Configuration</h2>") > page.rfind("<article").unwrap(), "the page ends with it");
        assert!(said.contains(&output.join("report.html").display().to_string()), "{said}");
    }
    let again = error_of(dqo().args(["demo", "--device", "cpu", "--output-dir"]).arg(dir.path().join("1")));
    let expected = ": exists already; go on with it by --resume, or choose another --output-dir";
    assert!(again.ends_with(expected), "{again}");
}

#[test]
fn a_demo_that_cannot_start_leaves_nothing_and_one_that_was_cut_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("demo");
    let demo = |device: &str| {
        let mut command = dqo();
        command.args(["demo", "--device", device, "--max-problems", "4", "--num-train-epochs", "1", "--output-dir"]);
        command.arg(&output);
        command
    };
    error_of(&mut demo("no such adapter"));
    assert!(!output.exists());
    let whole = done(&mut demo("cpu"));
    for lost in ["report.html", "run/final", "after.jsonl"] {
        let path = output.join(lost);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }
    assert_eq!(done(demo("cpu").arg("--resume")), whole);
    if let Some(browser) = Browser::open(&output.join("report.html")) {
        check_everywhere(&browser);
        // The example's tokens tell their numbers, as those below do.
        browser.run("arguments[0].focus()", &["#example [tabindex]"]);
        assert!(browser.text("#tip").contains("V before it"), "{}", browser.text("#tip"));
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
    let other = error_of(demo("cpu").args(["--resume", "--seed", "7"]));
    assert!(other.contains("--seed is 42") && other.contains("7 now"), "{other}");
}
