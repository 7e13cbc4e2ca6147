//! What a user may not lose: a run whose terminal is gone, a checkpoint, a directory that was being replaced, an output that
//! two processes would write.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{copy_of, dqo, error_of, stderr, train};
use crate::model::golden;
use crate::resume::{interrupted, long_run, result, signal, steps_done, until_caught, wait_until};
use crate::whole_loop::{problems, sample};

/// Waits until a run has done some steps, and holds it there; whether it was caught.
fn hold(child: &mut Child, output: &Path) -> bool {
    let caught = wait_until(child, || steps_done(output) >= 2);
    if caught {
        signal(child, "STOP");
    }
    caught
}

/// What is in a directory, by name.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn logp(model: &Path, data: &Path, output: &Path) -> Command {
    let mut command = dqo();
    command.args(["logp", "--device", "cpu", "--model"]).arg(model).arg("--data").arg(data).arg("--output").arg(output);
    command.stdout(Stdio::null());
    command
}

#[test]
fn a_run_whose_reader_is_gone_saves_and_goes_on_to_the_bit() {
    until_caught(|| {
        let dir = tempfile::tempdir().unwrap();
        let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
        assert!(long_run(&whole, "cpu").status().unwrap().success());
        let mut child = long_run(&cut, "cpu").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        if !interrupted(&mut child, "INT", || steps_done(&cut) >= 3) {
            return false;
        }
        assert!(long_run(&cut, "cpu").arg("--resume").status().unwrap().success());
        assert!(result(&whole) == result(&cut));
        true
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_log_ends_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    assert!(long_run(&dir.path().join("run"), "cpu").stderr(full).status().unwrap().success());
}

#[test]
fn a_sample_that_is_interrupted_says_so_though_nobody_reads() {
    until_caught(|| {
        let dir = tempfile::tempdir().unwrap();
        let (data, output) = (problems(dir.path(), 24), dir.path().join("rows.jsonl"));
        let mut command = sample(&data, &output, &["--num-samples", "40"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        let caught = wait_until(&mut child, || fs::metadata(&output).is_ok_and(|file| file.len() > 0));
        if caught {
            signal(&child, "INT");
        }
        let code = child.wait().unwrap().code();
        let rows = fs::read_to_string(&output).unwrap().lines().count();
        if !caught || rows == 24 * 40 {
            return false;
        }
        assert_eq!(code, Some(130), "with {rows} rows");
        true
    });
}

#[test]
fn a_hang_up_that_is_ignored_ends_no_run() {
    until_caught(|| {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("run");
        let run = long_run(&output, "cpu");
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let caught = wait_until(&mut child, || steps_done(&output) >= 2);
        if caught {
            signal(&child, "HUP");
        }
        assert!(child.wait().unwrap().success());
        caught
    });
}

/// Both optimizers, by a rate that no weight survives: nothing is saved, and what was saved before stays.
#[test]
fn a_model_that_is_not_finite_is_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    for (optimizer, rate) in [("sgd", "1e308"), ("adamw", "1e39"), ("adamw", "1e308")] {
        let output = dir.path().join(format!("{optimizer}{rate}"));
        let run = || {
            let mut command = train("dqo/llama", &golden("dqo/llama/rows.jsonl"), &output);
            command.args(["--optimizer", optimizer, "--learning-rate", rate, "--max-steps", "1", "--save-steps", "1"]);
            command
        };
        let message = error_of(&mut run());
        let expected =
            "step 1 left weights that are not finite; what was saved before is kept. Try a smaller --learning-rate: ";
        assert!(message.starts_with(expected), "{message}");
        assert!(message.ends_with("is not finite, and what is not finite is not saved"), "{message}");
        let left = names(&output);
        assert!(!left.iter().any(|name| name == "final" || name.starts_with("checkpoint-")), "{left:?}");
    }
}

#[test]
fn the_checkpoint_just_written_is_kept_where_newer_ones_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("run");
    // A schedule would hold the run to its length.
    let constant = ["--lr-scheduler-type", "constant", "--warmup-ratio", "0"];
    let run = |more: &[&str]| long_run(&output, "cpu").args(constant).args(more).status().unwrap();
    assert!(run(&["--save-steps", "10", "--save-total-limit", "0"]).success());
    for step in [20, 30] {
        let weights = output.join(format!("checkpoint-0000{step}/policy/model.safetensors"));
        fs::File::options().write(true).open(&weights).unwrap().set_len(100).unwrap();
    }
    assert!(run(&["--resume", "--save-total-limit", "1", "--max-steps", "15"]).success());
    assert!(output.join("checkpoint-000015").exists(), "what was just written");
    assert!(!output.join("checkpoint-000010").exists(), "an older one that is whole");
    fs::remove_dir_all(output.join("final")).unwrap();
    let before = fs::read(output.join("metrics.jsonl")).unwrap();
    assert!(run(&["--resume", "--save-total-limit", "1", "--max-steps", "15"]).success());
    assert!(before == fs::read(output.join("metrics.jsonl")).unwrap(), "the run went on from step 15");
}

#[test]
fn a_run_that_was_cut_off_between_two_names_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("run");
    assert!(long_run(&output, "cpu").status().unwrap().success());
    let before = fs::read(output.join("metrics.jsonl")).unwrap();
    for name in ["checkpoint-000030", "final"] {
        fs::rename(output.join(name), output.join(format!(".{name}.dqo-old"))).unwrap();
    }
    assert!(long_run(&output, "cpu").arg("--resume").status().unwrap().success());
    assert!(before == fs::read(output.join("metrics.jsonl")).unwrap(), "no step was computed again");
    let left = names(&output);
    assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
    assert!(output.join("final").exists());
}

#[test]
fn holes_in_the_records_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("run");
    assert!(long_run(&output, "cpu").status().unwrap().success());
    let path = output.join("metrics.jsonl");
    let rows = fs::read_to_string(&path).unwrap();
    let holes: String = rows.lines().filter(|row| !row.contains("\"step\":7,")).flat_map(|row| [row, "\n"]).collect();
    fs::write(&path, holes).unwrap();
    let resumed = long_run(&output, "cpu").arg("--resume").stderr(Stdio::piped()).output().unwrap();
    let expected = format!("warning: {}: has 29 rows of the 30 steps that are done", path.display());
    assert!(stderr(&resumed).contains(&expected), "{}", stderr(&resumed));
}

#[test]
fn two_processes_do_not_train_in_one_directory() {
    until_caught(|| {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("run");
        let mut first = long_run(&output, "cpu").spawn().unwrap();
        if !hold(&mut first, &output) {
            return false;
        }
        let message = error_of(long_run(&output, "cpu").arg("--resume").stderr(Stdio::piped()));
        assert_eq!(message, format!("{}: another process writes it; let it end, or stop it", output.display()));
        signal(&first, "CONT");
        assert!(first.wait().unwrap().success());
        assert_eq!(steps_done(&output), 30);
        true
    });
}

#[test]
fn two_processes_do_not_sample_into_one_file() {
    until_caught(|| {
        let dir = tempfile::tempdir().unwrap();
        let (data, output) = (problems(dir.path(), 24), dir.path().join("rows.jsonl"));
        let samples = ["--num-samples", "4"];
        let mut first = sample(&data, &output, &samples).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if !wait_until(&mut first, || fs::metadata(&output).is_ok_and(|file| file.len() > 0)) {
            return false;
        }
        signal(&first, "STOP");
        let message = error_of(sample(&data, &output, &samples).arg("--resume"));
        assert_eq!(message, format!("{}: another process writes it; let it end, or stop it", output.display()));
        signal(&first, "CONT");
        assert!(first.wait().unwrap().success());
        assert_eq!(fs::read_to_string(&output).unwrap().lines().count(), 24 * 4);
        true
    });
}

#[test]
fn an_input_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let model = copy_of("dqo/llama", &dir.path().join("model"));
    let rows = model.join("rows.jsonl");
    let logp = |output: &Path| logp(&model.join("policy"), &rows, output);
    let weights = model.join("policy/model.safetensors");
    let link = dir.path().join("link.jsonl");
    std::os::unix::fs::symlink(&rows, &link).unwrap();
    let graded = |output: &Path| {
        let mut command = dqo();
        command.args(["grade", "--task", "gsm8k", "--data"]).arg(&rows).arg("--output").arg(output);
        command
    };
    let valued = |output: &Path| {
        let mut command = dqo();
        command.args(["values", "--device", "cpu", "--value"]).arg(model.join("value"));
        command.arg("--data").arg(&rows).arg("--output").arg(output);
        command
    };
    let before = [&rows, &weights].map(|path| fs::read(path).unwrap());
    for (mut command, output) in [
        (logp(&rows), &rows),
        (logp(&link), &link),
        (logp(&weights), &weights),
        (graded(&rows), &rows),
        (valued(&rows), &rows),
    ] {
        let expected = format!("{}: is read here and would be overwritten; choose another --output", output.display());
        assert_eq!(error_of(&mut command), expected);
    }
    assert!(before == [&rows, &weights].map(|path| fs::read(path).unwrap()));
}

/// A user's file may have the name that settings are kept under.
#[test]
fn settings_do_not_overwrite_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (data, output) = (problems(dir.path(), 2), dir.path().join("exp"));
    let theirs = dir.path().join("exp.toml");
    fs::write(&theirs, "num_samples = 1\n").unwrap();
    let message = error_of(sample(&data, &output, &[]).arg("--config").arg(&theirs));
    let expected =
        format!("{}: exists already, and the settings would go there; choose another --output", theirs.display());
    assert_eq!(message, expected);
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "num_samples = 1\n");
    assert!(!output.exists());
}

#[test]
fn a_pipe_and_a_link_stay_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let rows = copy_of("dqo/llama", &dir.path().join("model")).join("rows.jsonl");
    let logp = |output: &Path| logp(&golden("dqo/llama/policy"), &rows, output);
    let (plain, target) = (dir.path().join("plain.jsonl"), dir.path().join("target.jsonl"));
    assert!(logp(&plain).status().unwrap().success());
    let expected = fs::read_to_string(&plain).unwrap();

    fs::write(&target, "").unwrap();
    let link = dir.path().join("link.jsonl");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(logp(&link).status().unwrap().success());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), expected);

    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut child = logp(&fifo).spawn().unwrap();
    assert_eq!(fs::read_to_string(&fifo).unwrap(), expected);
    assert!(child.wait().unwrap().success());
    assert!(!fs::metadata(&fifo).unwrap().is_file());
}

/// The user's own files beside an output keep their contents, whatever they are called.
#[test]
fn what_lies_beside_an_output_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = ["rows.jsonl.tmp", "rows.jsonl.old"].map(|name| dir.path().join(name));
    theirs.iter().for_each(|path| fs::write(path, "theirs").unwrap());
    let data = dir.path().join("data.jsonl");
    fs::copy(golden("dqo/llama/rows.jsonl"), &data).unwrap();
    let mut command = logp(&golden("dqo/llama/policy"), &data, &dir.path().join("rows.jsonl"));
    assert!(command.status().unwrap().success());
    theirs.iter().for_each(|path| assert_eq!(fs::read_to_string(path).unwrap(), "theirs"));
    assert_eq!(names(dir.path()).len(), 4);
}

/// A command that fails before its first result leaves nothing, and can be given again.
#[test]
fn a_failed_start_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 2);
    let model = copy_of("dqo/llama", &dir.path().join("model"));
    let weights = model.join("policy/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let before = names(dir.path());
    let run = || {
        let mut command = dqo();
        command.args(["train", "--method", "dqo", "--device", "cpu", "--batch-size", "4", "--max-steps", "1"]);
        command.arg("--model");
        command.arg(model.join("policy")).arg("--value-model").arg(model.join("value"));
        command.arg("--data").arg(model.join("rows.jsonl")).arg("--output-dir").arg(dir.path().join("out"));
        command
    };
    error_of(&mut run());
    assert_eq!(names(dir.path()), before);
    let mut sampled = dqo();
    sampled.args(["sample", "--device", "cpu", "--task", "gsm8k", "--model"]).arg(model.join("policy"));
    sampled.arg("--data").arg(&data).arg("--output").arg(dir.path().join("sampled.jsonl"));
    error_of(&mut sampled);
    assert_eq!(names(dir.path()), before);

    fs::write(&weights, &whole).unwrap();
    assert!(run().output().unwrap().status.success());
}

/// Before a run begins there is nothing to save: a signal ends it at once, however long its steps take to lay out.
#[test]
fn a_signal_before_the_run_begins_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = long_run(&dir.path().join("run"), "cpu");
    let mut child = command.args(["--max-steps", "4294967296"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    signal(&child, "TERM");
    let start = Instant::now();
    assert!(!child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!dir.path().join("run").exists());
}

#[test]
fn a_merge_that_is_not_finite_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let set = copy_of("lora/llama", &dir.path().join("set"));
    let weights = set.join("policy/adapter_model.safetensors");
    for not_finite in [f32::NAN, f32::INFINITY] {
        let mut bytes = fs::read(&weights).unwrap();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&not_finite.to_le_bytes());
        fs::write(&weights, bytes).unwrap();
        let output = dir.path().join("merged");
        let mut command = dqo();
        command.arg("merge").arg("--model").arg(set.join("model")).arg("--adapter").arg(set.join("policy"));
        let message = error_of(command.arg("--output").arg(&output));
        assert!(message.ends_with("is not finite, and what is not finite is not saved"), "{message}");
        assert_eq!(names(dir.path()), ["set"]);
    }
}
