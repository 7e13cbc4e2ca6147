//! Several ranks come to what one comes to, to the bit; and none is left waiting where another fails.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::command::{dqo, json_of, on_full_disk, stderr};
use crate::harness::skip_gpu;
use crate::methods::{OFFLINE, by_method, rollouts, train_by};
use crate::model::{golden, json_lines};
use crate::online::{rounds, short_run};
use crate::resume::{long_run, signal, steps_done, until_caught, wait_until};
use crate::whole_loop::{assert_same_rows, asset, problems, sample, with_model};

/// A launcher of `count` ranks of a command, as it would be started by itself.
fn on(count: usize, command: &Command) -> Command {
    let mut launcher = Command::new("mpirun");
    launcher.arg("-n").arg(count.to_string()).arg(command.get_program()).args(command.get_args());
    launcher.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // For Open MPI; the ranks have more threads than there are cores here.
    launcher.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    launcher.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
    launcher.env("RAYON_NUM_THREADS", "1");
    launcher
}

/// What a launcher that ends well prints.
#[track_caller]
fn done_on(count: usize, command: &Command) -> String {
    let output = on(count, command).output().unwrap();
    assert!(output.status.success(), "{count} ranks: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The error of a launcher that fails with a code.
#[track_caller]
fn error_on(launcher: &mut Command, code: i32) -> String {
    let start = Instant::now();
    let output = launcher.output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(30), "it hung");
    assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    let stderr = stderr(&output);
    let errors: Vec<_> = stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    errors[0].to_owned()
}

/// All weights of a result, and the metrics but for what depends on the clock or the ranks.
fn result(output: &Path) -> (Vec<Vec<u8>>, Vec<Value>) {
    let mut files = Vec::new();
    for part in ["policy", "value"] {
        for name in ["model.safetensors", "adapter_model.safetensors"] {
            files.extend(fs::read(output.join("final").join(part).join(name)).ok());
        }
    }
    assert!(!files.is_empty());
    let mut rows = json_lines(&output.join("metrics.jsonl"));
    for row in &mut rows {
        let own = ["seconds", "tokens_per_second", "peak_memory_bytes", "comm/bytes", "comm/seconds"];
        row.as_object_mut().unwrap().retain(|name, _| !own.contains(&name.as_str()));
    }
    (files, rows)
}

/// Runs a method on some ranks and on one; both come to the same.
#[track_caller]
fn same_on(counts: &[usize], method: &str, device: &str, more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let rows = rollouts(dir.path());
    let run = |count: usize| {
        let output = dir.path().join(format!("on-{count}"));
        // Its own copy: the reference's log-probs are kept beside it.
        let own = output.with_extension("jsonl");
        fs::copy(&rows, &own).unwrap();
        let mut command = train_by(method, &own, &output);
        command.args(["--device", device, "--max-steps", "3", "--tokens-per-micro-batch", "12"]).args(more);
        done_on(count, &command);
        result(&output)
    };
    let alone = run(1);
    for &count in counts {
        assert!(run(count) == alone, "{method} on {device} {more:?}: {count} ranks");
    }
}

/// Every offline method, whole networks and adapters, AdamW with clipping.
#[track_caller]
fn every_method_is_the_same_on(device: &str) {
    for method in OFFLINE {
        same_on(&[2, 3, 4], method, device, &[]);
        same_on(&[2, 3, 4], method, device, &["--lora-r", "4", "--lora-dropout", "0.1"]);
    }
}

#[test]
fn every_method_comes_to_the_same_bits_on_any_number_of_ranks() {
    every_method_is_the_same_on("cpu");
}

#[test]
fn every_method_comes_to_the_same_bits_on_any_number_of_ranks_of_a_gpu() {
    if !skip_gpu() {
        every_method_is_the_same_on("gpu");
    }
}

/// Rounds of ppo, evaluations between them.
#[track_caller]
fn sampled_rounds_are_the_same_on(device: &str, more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let data = problems(dir.path(), 20);
    let run = |count: usize| {
        let output = dir.path().join(format!("on-{count}"));
        let mut command = short_run(&data, &output, device);
        command.arg("--eval-data").arg(&data).args(["--eval-steps", "5", "--eval-on-start"]).args(more);
        done_on(count, &command);
        (rounds(&output), result(&output))
    };
    let alone = run(1);
    assert!(alone.1.1.iter().any(|row| row["eval/accuracy"].is_f64()));
    for count in [2, 3, 4] {
        assert!(run(count) == alone, "{device} {more:?}: {count} ranks");
    }
}

#[test]
fn sampled_rounds_and_evaluations_are_the_same_on_any_number_of_ranks() {
    sampled_rounds_are_the_same_on("cpu", &[]);
    sampled_rounds_are_the_same_on("cpu", &["--lora-r", "4", "--lora-dropout", "0.1"]);
}

#[test]
fn sampled_rounds_and_evaluations_are_the_same_on_any_number_of_ranks_of_a_gpu() {
    if !skip_gpu() {
        sampled_rounds_are_the_same_on("gpu", &[]);
        sampled_rounds_are_the_same_on("gpu", &["--lora-r", "4", "--lora-dropout", "0.1"]);
    }
}

#[test]
fn what_is_evaluated_and_scored_on_ranks_is_what_one_process_finds() {
    let dir = tempfile::tempdir().unwrap();
    let predictions = |name: &str| dir.path().join(format!("{name}.jsonl"));
    let eval = |name: &str| {
        let mut command = with_model("eval", &asset("test.jsonl"));
        command.args(["--max-problems", "50", "--sample", "--num-seeds", "2", "--json"]);
        command.arg("--output").arg(predictions(name));
        command
    };
    // To stdout, as the output is a file: one answer, not one a rank.
    let (of_one, of_three) = (done_on(1, &eval("one")), done_on(3, &eval("three")));
    assert_eq!(of_one, of_three);
    assert_eq!(fs::read(predictions("one")).unwrap(), fs::read(predictions("three")).unwrap());

    let rows = rollouts(dir.path());
    let logp = |name: &str| {
        let mut command = dqo();
        command.args(["logp", "--device", "cpu", "--tokens-per-micro-batch", "20", "--model"]);
        command.arg(golden("methods").join("policy")).arg("--data").arg(&rows);
        command.arg("--output").arg(predictions(name));
        command
    };
    done_on(1, &logp("logps-one"));
    done_on(3, &logp("logps-three"));
    assert_eq!(fs::read(predictions("logps-one")).unwrap(), fs::read(predictions("logps-three")).unwrap());
}

#[test]
fn what_is_sampled_and_judged_on_ranks_is_what_one_process_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let data = problems(dir.path(), 20);
    // Windows of 2 x 8 responses a rank, of 60.
    let rollouts = |name: &str| sample(&data, &path(name), &["--batch-size", "2"]);
    done_on(1, &rollouts("one.jsonl"));
    done_on(3, &rollouts("three.jsonl"));
    assert_same_rows(&path("three.jsonl"), &path("one.jsonl"));

    let judged = |name: &str| {
        let mut command = with_model("process-reward", &path("one.jsonl"));
        command.args(["--num-samples", "4", "--output"]).arg(path(name));
        command
    };
    let (of_one, of_three) = (done_on(1, &judged("judged-one.jsonl")), done_on(3, &judged("judged-three.jsonl")));
    assert_eq!(of_one.replace("-one", "-three"), of_three);
    assert_eq!(fs::read(path("judged-one.jsonl")).unwrap(), fs::read(path("judged-three.jsonl")).unwrap());

    let mut train = dqo();
    train.args(["train", "--method", "dqo", "--device", "cpu", "--max-steps", "1", "--model"]).arg(asset("model"));
    train.arg("--data").arg(path("one.jsonl")).arg("--output-dir").arg(path("run"));
    done_on(2, &train);
    let values = |name: &str| {
        let mut command = dqo();
        command.args(["values", "--device", "cpu", "--tokens-per-micro-batch", "200", "--value"]);
        command.arg(path("run/final/value")).arg("--data").arg(path("one.jsonl")).arg("--output").arg(path(name));
        command
    };
    done_on(1, &values("values-one.jsonl"));
    done_on(3, &values("values-three.jsonl"));
    assert_eq!(fs::read(path("values-one.jsonl")).unwrap(), fs::read(path("values-three.jsonl")).unwrap());
}

#[test]
fn sampling_that_was_killed_goes_on_to_the_same_rows_on_another_number_of_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole.jsonl"), dir.path().join("cut.jsonl"));
    let data = asset("train.jsonl");
    done_on(1, &sample(&data, &whole, &[]));
    let rows = || fs::read_to_string(&cut).unwrap_or_default().lines().count();
    until_caught(|| {
        fs::remove_file(&cut).ok();
        let command = sample(&data, &cut, &["--batch-size", "4"]);
        let mut launcher = on(3, &command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if !wait_until(&mut launcher, || rows() >= 100) {
            return false;
        }
        send("KILL", &ranks_of(&launcher)[2..]);
        assert_ne!(ends_soon(&mut launcher), Some(0));
        assert!(rows() < 900);
        done_on(2, &sample(&data, &cut, &["--resume"]));
        assert_same_rows(&cut, &whole);
        true
    });
}

#[test]
fn devices_that_differ_are_told_and_train_together() {
    if skip_gpu() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (rows, output) = (rollouts(dir.path()), dir.path().join("out"));
    let on_device = |device: &str| {
        let mut command = train_by("sft", &rows, &output);
        command.args(["--device", device, "--max-steps", "2", "--tokens-per-micro-batch", "12"]);
        command
    };
    let mut launcher = on(1, &on_device("cpu"));
    launcher.args([":", "-n", "1"]).arg(on_device("gpu").get_program()).args(on_device("gpu").get_args());
    let ended = launcher.output().unwrap();
    let said = stderr(&ended);
    assert!(ended.status.success() && said.contains("warning: the ranks' devices differ (CPU"), "{said}");
    assert!(output.join("final").exists());
}

/// The ranks of a launcher that run; one that has ended and that it has not asked for does not.
fn ranks_of(launcher: &Child) -> Vec<String> {
    let all = Command::new("ps").args(["-A", "-o", "ppid=,stat=,pid="]).output().unwrap();
    assert!(all.status.success(), "{}", stderr(&all));
    let of_launcher = launcher.id().to_string();
    let rank = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [parent, state, process] if parent == of_launcher && !state.starts_with('Z') => Some(process.to_owned()),
        _ => None,
    };
    String::from_utf8(all.stdout).unwrap().lines().filter_map(rank).collect()
}

/// Sends processes a signal.
#[track_caller]
fn send(name: &str, processes: &[String]) {
    assert!(Command::new("kill").arg(format!("-{name}")).args(processes).status().unwrap().success());
}

/// The code of a launcher that ends, which no rank may keep from it.
///
/// Open MPI's own can lock itself up in `PMIx_server_finalize` where a rank ends in the moment in which it calls in: that one has no
/// rank left, waits for itself, and is ended from here, without a code.
fn ends_soon(launcher: &mut Child) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if let Some(status) = launcher.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ranks_of(launcher), [""; 0], "ranks hang");
    println!("the launcher locked itself up");
    launcher.kill().unwrap();
    launcher.wait().unwrap().code()
}

/// A run that goes on for longer than a launcher takes to pass a signal on.
fn saving_run(output: &Path) -> Command {
    let mut command = long_run(output, "cpu");
    command.args(["--save-steps", "1", "--max-steps", "300"]);
    command
}

/// Starts a saving run on some ranks, which goes on where it has begun.
fn start(count: usize, output: &Path) -> Child {
    let mut command = saving_run(output);
    if output.join("config.toml").exists() {
        command.arg("--resume");
    }
    on(count, &command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_run_that_was_cut_goes_on_to_the_bit_on_another_number_of_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    done_on(1, &saving_run(&whole));
    until_caught(|| {
        let cut = dir.path().join("cut");
        fs::remove_dir_all(&cut).ok();
        // One rank of three is killed, then the launcher is asked to end, twice.
        let mut launcher = start(3, &cut);
        if !wait_until(&mut launcher, || steps_done(&cut) >= 4) {
            return false;
        }
        let ranks = ranks_of(&launcher);
        assert_eq!(ranks.len(), 3);
        send("KILL", &ranks[1..2]);
        assert_ne!(ends_soon(&mut launcher), Some(0));
        for (count, stop_at) in [(2, 20), (4, 60)] {
            let mut launcher = start(count, &cut);
            if !wait_until(&mut launcher, || steps_done(&cut) >= stop_at) {
                return false;
            }
            signal(&launcher, "TERM");
            assert_ne!(ends_soon(&mut launcher), Some(0));
            assert!(!cut.join("final").exists());
        }
        let mut command = saving_run(&cut);
        command.arg("--resume");
        done_on(2, &command);
        assert!(result(&cut) == result(&whole), "the cuts changed the run");
        true
    });
}

/// What ends a run before its time.
#[derive(Debug)]
enum Cut {
    /// One of its ranks is killed.
    Kill { rank: usize },
    /// Its launcher is asked to end.
    Terminate,
}

impl Cut {
    fn any(count: usize, rng: &mut ChaCha8Rng) -> Self {
        if rng.random() { Self::Terminate } else { Self::Kill { rank: rng.random_range(0..count) } }
    }

    /// Does it, unless the run has ended, or has no such rank yet.
    fn does(self, launcher: &Child) -> bool {
        match self {
            Self::Terminate => signal(launcher, "TERM"),
            Self::Kill { rank } => match ranks_of(launcher).get(rank) {
                Some(process) => drop(Command::new("kill").args(["-KILL", process]).stderr(Stdio::null()).status()),
                None => return false,
            },
        }
        true
    }
}

#[test]
fn cut_at_forty_moments_a_run_goes_on_to_the_bit_on_other_numbers_of_ranks() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    done_on(1, &saving_run(&whole));
    let start_of_run = Instant::now();
    done_on(3, &saving_run(&cut));
    let of_run = start_of_run.elapsed().as_secs_f64();
    let (mut cuts, mut wholes) = (0, 0);
    while cuts < 40 || !cut.join("final").exists() {
        // With all its cuts behind it, it goes to its end.
        if cut.join("final").exists() {
            assert!(result(&cut) == result(&whole), "cuts changed the run");
            wholes += 1;
            fs::remove_dir_all(&cut).unwrap();
        }
        let count = rng.random_range(1..5);
        let mut launcher = start(count, &cut);
        if cuts < 40 {
            std::thread::sleep(Duration::from_secs_f64(rng.random_range(0.0..of_run)));
            let (what, before) = (Cut::any(count, &mut rng), steps_done(&cut));
            println!("{what:?} on {count} ranks after {before} steps");
            let is_done = what.does(&launcher);
            let code = ends_soon(&mut launcher);
            println!("it ended with {code:?}");
            cuts += usize::from(is_done && code != Some(0));
            assert!(code != Some(0) || cut.join("final").exists());
        } else {
            assert_eq!(ends_soon(&mut launcher), Some(0));
        }
    }
    assert!(result(&cut) == result(&whole), "cuts changed the run");
    println!("{wholes} runs came to their end between the cuts");
}

#[test]
fn ranks_that_were_started_with_different_things_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let rows = rollouts(dir.path());
    let others = dir.path().join("other.jsonl");
    let text = fs::read_to_string(&rows).unwrap();
    fs::write(&others, text.replacen("\"reward\": 1", "\"reward\": 0", 1)).unwrap();
    let one = train_by("sft", &rows, &output);
    let with = |more: &[&str]| {
        let mut command = train_by("sft", &rows, &output);
        command.args(more);
        command
    };
    let mixed = |other: &Command| {
        let mut launcher = on(1, &one);
        launcher.args([":", "-n", "1"]).arg(other.get_program()).args(other.get_args());
        error_on(&mut launcher, 1)
    };
    assert_eq!(
        mixed(&with(&["--learning-rate", "0.5"])),
        "rank 1 of 2: --learning-rate is 0.5 here and 0.001 for the first rank; give all the same options"
    );
    assert!(!output.exists(), "it left something behind");
    let eval = |seeds: &str| {
        let mut command = with_model("eval", &asset("test.jsonl"));
        command.args(["--max-problems", "2", "--sample", "--num-seeds", seeds]);
        command
    };
    let mut launcher = on(1, &eval("1"));
    launcher.args([":", "-n", "1"]).arg(eval("2").get_program()).args(eval("2").get_args());
    assert_eq!(
        error_on(&mut launcher, 1),
        "rank 1 of 2: --num-seeds is 2 here and 1 for the first rank; give all the same options"
    );
    // A fault that all ranks find is said once.
    let empty = error_on(&mut on(3, &with(&["--batch-size", "0"])), 1);
    assert_eq!(empty, "rank 0 of 3: --batch-size is 0; it must be at least 1");
    let unknown = error_on(&mut on(3, &with(&["--batches", "0"])), 2);
    assert!(unknown.starts_with("rank 0 of 3: unexpected argument '--batches'"), "{unknown}");
    let alone = error_on(on(2, &dqo()).arg("devices"), 1);
    assert!(alone.contains("this verb does not share its work out"), "{alone}");
}

#[test]
fn ranks_that_are_asked_to_end_save_once_and_say_so() {
    // Whether all get the signal, as from `srun`, or one does.
    for asked in [0..2, 1..2] {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let mut command = long_run(&output, "cpu");
        command.args(["--save-steps", "0", "--max-steps", "1000000"]);
        let mut launcher = on(2, &command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        assert!(wait_until(&mut launcher, || steps_done(&output) >= 20));
        let ranks = ranks_of(&launcher);
        send("TERM", &ranks[asked]);
        assert_eq!(ends_soon(&mut launcher), Some(130));
        let saved = fs::read_dir(&output).unwrap().flatten();
        let saved = saved.filter(|entry| entry.file_name().to_string_lossy().starts_with("checkpoint")).count();
        assert_eq!(saved, 1);
    }
}

#[test]
fn a_full_disk_and_a_loss_that_is_not_finite_end_all_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let run = |rows: &Path| {
        let mut command = train_by("dqo", rows, &output);
        command.args(["--max-steps", "2", "--tokens-per-micro-batch", "12"]);
        command
    };
    let rows = rollouts(dir.path());
    let limited = on_full_disk(16, &run(&rows));
    // No memory in files between the ranks.
    let error = error_on(on(3, &limited).env("OMPI_MCA_btl", "tcp,self"), 1);
    let model = output.join(".checkpoint-000002.dqo-new/policy/model.safetensors");
    assert!(error.starts_with(&format!("rank 0 of 3: {}: cannot be written: ", model.display())), "{error}");
    assert!(!output.join("final").exists() && !output.join("checkpoint-000002").exists());

    fs::remove_dir_all(&output).unwrap();
    let text = fs::read_to_string(&rows).unwrap();
    fs::write(&rows, text.replacen("\"reward\": 1.0", "\"reward\": 1e30", 1)).unwrap();
    let error = error_on(&mut on(3, &run(&rows)), 1);
    assert!(error.starts_with("rank 0 of 3: step ") && error.contains(": the loss is not finite, with "), "{error}");
    assert!(!output.join("final").exists());
}

#[test]
fn what_travels_is_at_most_twice_the_gradients_and_is_planned() {
    for adapters in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let rows = rollouts(dir.path());
        let run = |verb: &str| {
            let mut command = by_method(verb, "sft", &rows, &output);
            // Four rows, four micro-batches, a rank each.
            command.args(["--max-steps", "2", "--tokens-per-micro-batch", "1"]);
            command.args(if adapters { &["--lora-r", "4"][..] } else { &[] });
            command
        };
        done_on(4, &run("train"));
        let plan = json_of(run("plan").args(["--ranks", "4", "--json"]));
        let planned = |of: &Value| of.as_f64().unwrap();
        let part = if adapters { "adapter_model.safetensors" } else { "model.safetensors" };
        let saved = fs::read(output.join("final/policy").join(part)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&saved).unwrap();
        let weights: usize = tensors.tensors().iter().map(|(_, view)| view.shape().iter().product::<usize>()).sum();
        for row in json_lines(&output.join("metrics.jsonl")) {
            let bytes = row["comm/bytes"].as_u64().unwrap();
            assert!(bytes > 0 && bytes <= 2 * 4 * weights as u64, "{bytes} bytes for {weights} weights");
            assert!((bytes as f64 / planned(&plan["ranks"]["sent_bytes"]) - 1.0).abs() < 0.02, "{bytes}, {plan}");
            let peak = planned(&row["peak_memory_bytes"]);
            assert!((peak / planned(&plan["peak_bytes"]) - 1.0).abs() < 0.02, "{peak}, {plan}");
        }
    }
}
