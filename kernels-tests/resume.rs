//! A run that is cut and resumed is the run that was not, to the bit.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{dqo, stderr, train};
use crate::harness::skip_gpu;
use crate::model::{golden, json_lines};
use crate::whole_loop::{asset, problems, sample, with_model};

const STEPS: usize = 30;

/// A run of [`STEPS`] steps with everything that has a state: warm-up, moments, micro-batches, several epochs.
pub fn long_run(output: &Path, device: &str) -> Command {
    let mut command = train("dqo/llama", &golden("dqo/llama/rows.jsonl"), output);
    let steps = STEPS.to_string();
    command.args(["--device", device, "--batch-size", "3", "--tokens-per-micro-batch", "20", "--max-steps", &steps]);
    command.args(["--learning-rate", "1e-3", "--lr-scheduler-type", "cosine", "--warmup-ratio", "0.2"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits until `seen` or the process has ended; whether it was seen.
pub fn wait_until(child: &mut Child, mut seen: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        if seen() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    panic!("the run neither ended nor came to the point");
}

pub fn steps_done(output: &Path) -> usize {
    fs::read_to_string(output.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// What does not depend on the clock: weights, and the metrics but for time and speed.
pub fn result(output: &Path) -> (Vec<Vec<u8>>, Vec<Value>) {
    let weights =
        ["policy", "value"].map(|part| fs::read(output.join("final").join(part).join("model.safetensors")).unwrap());
    let mut rows = json_lines(&output.join("metrics.jsonl"));
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        row.retain(|name, _| name != "seconds" && name != "tokens_per_second");
    }
    (weights.into(), rows)
}

#[cfg(unix)]
pub fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Sends a signal when `seen`; whether the run was interrupted by it, and had not ended before.
#[cfg(unix)]
pub fn interrupted(child: &mut Child, name: &str, seen: impl FnMut() -> bool) -> bool {
    let caught = wait_until(child, seen);
    if caught {
        signal(child, name);
    }
    child.wait().unwrap().code() == Some(130)
}

/// Tries again where a run ended before it was caught: a loaded machine may wake this process too late.
#[track_caller]
pub fn until_caught(attempt: impl Fn() -> bool) {
    assert!((0..10).any(|_| attempt()), "the run ended each time before it was caught");
}

/// Whether a run was cut, and went on to what the run that was not cut has.
#[cfg(unix)]
fn interrupted_and_resumed(device: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    assert!(long_run(&whole, device).status().unwrap().success());
    assert_eq!(steps_done(&whole), STEPS);

    let mut cuts = 0;
    for stop_at in [3, 11, 20] {
        let mut command = long_run(&cut, device);
        if cuts > 0 {
            command.arg("--resume");
        }
        let name = if stop_at == 11 { "TERM" } else { "INT" };
        if interrupted(&mut command.spawn().unwrap(), name, || steps_done(&cut) >= stop_at) {
            cuts += 1;
            assert!(!cut.join("final").exists());
        }
    }
    if cuts == 0 {
        return false;
    }
    if !cut.join("final").exists() {
        assert!(long_run(&cut, device).arg("--resume").status().unwrap().success());
    }
    assert!(result(&whole) == result(&cut), "{cuts} cuts changed the run");
    true
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_to_the_bit_on_the_cpu() {
    until_caught(|| interrupted_and_resumed("cpu"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_to_the_bit_on_the_gpu() {
    if !skip_gpu() {
        until_caught(|| interrupted_and_resumed("gpu"));
    }
}

#[cfg(unix)]
#[test]
fn a_run_killed_while_it_saves_goes_on_to_the_bit() {
    until_caught(killed_and_resumed);
}

#[cfg(unix)]
fn killed_and_resumed() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let save_often = |output: &Path| {
        let mut command = long_run(output, "cpu");
        command.args(["--save-steps", "1"]);
        command
    };
    assert!(save_often(&whole).status().unwrap().success());

    let is_saving = || {
        let entries = fs::read_dir(&cut).into_iter().flatten();
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".dqo-new"))
    };
    let mut kills = 0;
    for attempt in 0..6 {
        let mut command = save_often(&cut);
        if attempt > 0 {
            command.arg("--resume");
        }
        let mut child = command.spawn().unwrap();
        // What an earlier kill left behind does not count.
        let before = steps_done(&cut);
        if wait_until(&mut child, || is_saving() && steps_done(&cut) > before.min(STEPS - 1)) {
            signal(&child, "KILL");
            child.wait().unwrap();
            kills += 1;
        }
        if cut.join("final").exists() {
            break;
        }
    }
    if kills == 0 {
        return false;
    }
    if !cut.join("final").exists() {
        assert!(save_often(&cut).arg("--resume").status().unwrap().success());
    }
    assert!(result(&whole) == result(&cut), "{kills} kills changed the run");
    let left: Vec<_> = fs::read_dir(&cut).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
    true
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, damaged) = (dir.path().join("whole"), dir.path().join("damaged"));
    assert!(long_run(&whole, "cpu").status().unwrap().success());
    assert!(
        long_run(&damaged, "cpu").args(["--save-steps", "10", "--save-total-limit", "0"]).status().unwrap().success()
    );
    let newest = damaged.join(format!("checkpoint-{STEPS:06}/optimizer.safetensors"));
    let mut bytes = fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&newest, bytes).unwrap();
    fs::remove_dir_all(damaged.join("final")).unwrap();
    let output = long_run(&damaged, "cpu").arg("--resume").stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let expected = format!("a checkpoint is passed over: {}: is not as manifest.json says", newest.display());
    assert!(stderr.contains(&expected), "{stderr}");
    assert!(result(&whole) == result(&damaged));
}

#[cfg(unix)]
#[test]
fn a_resumed_run_keeps_the_same_best_policy() {
    let dir = tempfile::tempdir().unwrap();
    let (data, rollouts) = (problems(dir.path(), 24), dir.path().join("rollouts.jsonl"));
    assert!(sample(&data, &rollouts, &[]).output().unwrap().status.success());
    let run = |output: &Path| {
        let mut command = with_model("train", &rollouts);
        command.args(["--method", "dqo", "--batch-size", "8", "--learning-rate", "3e-4", "--max-steps", "16"]);
        command.args(["--eval-steps", "2", "--eval-data"]).arg(&data).arg("--output-dir").arg(output);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    assert!(run(&whole).status().unwrap().success());
    until_caught(|| {
        let _ = fs::remove_dir_all(&cut);
        interrupted(&mut run(&cut).spawn().unwrap(), "INT", || steps_done(&cut) >= 5)
    });
    assert!(run(&cut).arg("--resume").status().unwrap().success());
    assert!(result(&whole) == result(&cut));
    for file in ["best/state.json", "best/policy/model.safetensors"] {
        assert!(fs::read(whole.join(file)).unwrap() == fs::read(cut.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn an_evaluation_before_the_first_step_is_a_row_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (data, rollouts) = (problems(dir.path(), 24), dir.path().join("rollouts.jsonl"));
    assert!(sample(&data, &rollouts, &[]).output().unwrap().status.success());
    let output = dir.path().join("out");
    let run = |steps: &str| {
        let mut command = with_model("train", &rollouts);
        command.args(["--method", "sft", "--batch-size", "8", "--learning-rate", "0", "--save-steps", "1"]);
        command
            .args(["--max-steps", steps, "--eval-on-start", "--eval-data"])
            .arg(&data)
            .arg("--output-dir")
            .arg(&output);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(run("1").status().unwrap().success());
    assert!(run("2").arg("--resume").status().unwrap().success());
    let rows = json_lines(&output.join("metrics.jsonl"));
    assert_eq!(rows.iter().map(|row| row["step"].clone()).collect::<Vec<_>>(), [0, 1, 2]);
    // With a learning rate of 0 the policy is what it was.
    let accuracy = &rows[0]["eval/accuracy"];
    assert!(accuracy.is_number() && rows[0].as_object().unwrap().len() == 3, "{}", rows[0]);
    assert_eq!(&rows[2]["eval/accuracy"], accuracy);
    assert!(fs::read_to_string(output.join("best/state.json")).unwrap().contains("\"step\":0"));
    let page = dqo_wgpu::report::report(&[output], None).unwrap();
    assert!(page.contains("before training"), "the page begins with it");
}

/// In the middle of the run and after its last step: the evaluation is made when the run goes on, as it would have been.
#[cfg(unix)]
#[test]
fn an_interrupted_evaluation_is_made_when_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (data, rollouts) = (problems(dir.path(), 200), dir.path().join("rollouts.jsonl"));
    assert!(sample(&data, &rollouts, &["--max-problems", "12"]).output().unwrap().status.success());
    let run = |output: &Path, last: &str| {
        let mut command = with_model("train", &rollouts);
        command.args(["--method", "dqo", "--batch-size", "8", "--learning-rate", "3e-4", "--max-steps", last]);
        command.args(["--eval-steps", "3", "--eval-data"]).arg(&data).arg("--output-dir").arg(output);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    for last in ["3", "5"] {
        let (whole, cut) = (dir.path().join(format!("whole-{last}")), dir.path().join(format!("cut-{last}")));
        assert!(run(&whole, last).status().unwrap().success());
        until_caught(|| {
            let _ = fs::remove_dir_all(&cut);
            let mut child = run(&cut, last).spawn().unwrap();
            let caught = wait_until(&mut child, || steps_done(&cut) >= 2);
            // The third step takes some milliseconds, the evaluation behind it many times as long.
            std::thread::sleep(Duration::from_millis(150));
            let state = cut.join("checkpoint-000003/state.json");
            interrupted(&mut child, "INT", || caught)
                && fs::read_to_string(state).is_ok_and(|state| state.contains("\"owes_evaluation\":true"))
        });
        assert!(!json_lines(&cut.join("metrics.jsonl"))[2].to_string().contains("eval/accuracy"));
        assert!(run(&cut, last).arg("--resume").status().unwrap().success());
        assert!(result(&whole) == result(&cut));
        let mut state = fs::read_to_string(cut.join(format!("checkpoint-00000{last}/state.json"))).unwrap();
        assert!(state.contains("\"owes_evaluation\":false"), "{state}");
        state = fs::read_to_string(cut.join("best/state.json")).unwrap();
        assert_eq!(state, fs::read_to_string(whole.join("best/state.json")).unwrap());
    }
}

/// The demo's model, as the golden ones have no weight that is large enough; whole, and adapters.
#[test]
fn a_run_with_moments_in_8_bits_goes_on_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (data, rollouts) = (problems(dir.path(), 24), dir.path().join("rollouts.jsonl"));
    assert!(sample(&data, &rollouts, &[]).output().unwrap().status.success());
    for (name, more) in [("whole", &[][..]), ("bf16", &["--dtype", "bf16"]), ("adapters", &["--lora-r", "64"])] {
        let output = |run: &str| dir.path().join(format!("{name}-{run}"));
        let run = |output: &Path, steps: &[&str]| {
            let mut command = dqo();
            command.args(["train", "--device", "cpu", "--method", "dqo", "--model"]).arg(asset("model"));
            command.arg("--data").arg(&rollouts).arg("--output-dir").arg(output);
            command.args(["--batch-size", "8", "--learning-rate", "3e-4", "--weight-decay", "0.1"]);
            command.args(["--optimizer", "adamw8bit", "--tokens-per-micro-batch", "128"]).args(more).args(steps);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
        };
        run(&output("at-once"), &["--max-steps", "6"]);
        run(&output("cut"), &["--max-steps", "3"]);
        run(&output("cut"), &["--max-steps", "6", "--resume"]);
        let weights = if name == "adapters" { "adapter_model.safetensors" } else { "model.safetensors" };
        for file in [
            &format!("final/policy/{weights}"),
            &format!("final/value/{weights}"),
            "checkpoint-000006/optimizer.safetensors",
        ] {
            let bytes = |run: &str| fs::read(output(run).join(file)).unwrap();
            assert!(bytes("at-once") == bytes("cut"), "{name}: {file}");
        }
        let state = fs::read(output("cut").join("checkpoint-000006/optimizer.safetensors")).unwrap();
        let state = safetensors::SafeTensors::deserialize(&state).unwrap();
        let codes = state.tensors().into_iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::U32);
        assert!(codes.count() > 20, "{name}: {:?}", state.names());
    }
}

#[test]
fn a_run_goes_on_with_gradient_checkpointing_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let run = |output: &Path, more: &[&str]| {
        // The schedule must not depend on the length of the run; what is typed last wins.
        let mut command = long_run(output, "cpu");
        assert!(
            command
                .args(["--lr-scheduler-type", "constant", "--warmup-ratio", "0"])
                .args(more)
                .status()
                .unwrap()
                .success()
        );
    };
    run(&whole, &["--max-steps", "8"]);
    run(&cut, &["--max-steps", "4"]);
    run(&cut, &["--max-steps", "8", "--resume", "--gradient-checkpointing"]);
    let config = fs::read_to_string(cut.join("config.toml")).unwrap();
    assert!(config.contains("gradient_checkpointing = true"), "{config}");
    let ((whole, _), (cut, _)) = (result(&whole), result(&cut));
    assert!(whole == cut);
}
