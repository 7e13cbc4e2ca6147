//! A short run of every verb that writes, under a fault.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::command::{copy_dir, dqo};
use crate::model::golden;
use crate::whole_loop::asset;

/// A verb's run: in a directory of its own, with paths from there, so that all runs write the same.
pub struct Case {
    pub name: &'static str,
    pub args: Vec<String>,
    /// Whether it is given again with `--resume`.
    pub resumes: bool,
    /// What is there before.
    pub template: PathBuf,
}

/// The shared object, built once.
fn interposer() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels-tests/faults/interpose.c");
        let path = std::env::temp_dir().join(format!("dqo-interpose-{}.so", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(&path)
            .arg(source)
            .args(["-ldl", "-lpthread"]);
        assert!(cc.status().unwrap().success());
        path
    })
}

/// A fault at a call, counted from 1.
#[derive(Clone, Copy)]
pub struct Fault {
    pub at: usize,
    pub kind: &'static str,
}

impl Case {
    fn command(&self, dir: &Path, more: &[&str]) -> Command {
        let mut command = dqo();
        command.args(&self.args).args(more).current_dir(dir).env("RAYON_NUM_THREADS", "1");
        command.stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, dir: &Path, more: &[&str]) -> Output {
        self.command(dir, more).output().unwrap()
    }

    pub fn spawn(&self, dir: &Path, more: &[&str]) -> std::process::Child {
        self.command(dir, more).spawn().unwrap()
    }

    /// Runs it under the interposer; `log` gets what it does.
    pub fn run_under(&self, dir: &Path, fault: Option<Fault>, log: Option<&Path>) -> Output {
        let mut command = self.command(dir, &[]);
        command.env("LD_PRELOAD", interposer()).env("DQO_FAULT_DIR", dir);
        if let Some(log) = log {
            command.env("DQO_FAULT_LOG", log);
        }
        if let Some(Fault { at, kind }) = fault {
            command.env("DQO_FAULT_AT", at.to_string()).env("DQO_FAULT_KIND", kind);
        }
        command.output().unwrap()
    }

    /// The command once more, as its user gives it after it ended too soon; what it says where it fails.
    pub fn again(&self, dir: &Path) -> Result<(), String> {
        let mut output = self.run(dir, if self.resumes { &["--resume"] } else { &[] });
        let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
        if self.resumes && said.contains("has no run to resume") {
            output = self.run(dir, &[]);
            said = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        // What is there is whole, then.
        let is_there = !self.resumes && said.contains("exists already");
        if output.status.success() || is_there { Ok(()) } else { Err(format!("given again: {said}")) }
    }

    pub fn start(&self, dir: &Path) {
        copy_dir(&self.template, dir);
    }
}

/// What is in a directory, but for what depends on the clock: files by name, and directories by theirs.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn add(root: &Path, dir: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                found.insert(name.clone() + "/", Vec::new());
                // A process that goes on adds a file of its own there.
                if !name.ends_with("tensorboard") {
                    add(root, &path, found);
                }
            } else {
                let bytes = fs::read(&path).unwrap();
                let bytes = match name.rsplit_once('.') {
                    Some((metrics, "jsonl")) if metrics.ends_with("/metrics") => without_times(&bytes),
                    // A demo's page has the seconds of its run.
                    Some(("out/report", "html")) => Vec::new(),
                    Some((_, "safetensors")) => in_order(&bytes),
                    _ => bytes,
                };
                found.insert(name, bytes);
            }
        }
    }
    let mut found = BTreeMap::new();
    add(dir, dir, &mut found);
    // The reference's log-probs are kept in the run where they cannot be beside its rows: either serves.
    let is_reference = |name: &str| name.contains("/reference.") || name.contains(".reference/");
    found.retain(|name, _| !is_reference(name) || name.contains("/."));
    found
}

/// A file of tensors with its header's keys in order: that of metadata is left to chance.
fn in_order(file: &[u8]) -> Vec<u8> {
    let header = |file: &[u8]| -> Option<(Vec<u8>, usize)> {
        let end = 8 + u64::from_le_bytes(file.get(..8)?.try_into().ok()?) as usize;
        let header: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(file.get(8..end)?).ok()?;
        Some((serde_json::to_vec(&header).ok()?, end))
    };
    // One that is damaged is held against the other as it is.
    header(file).map_or_else(|| file.to_vec(), |(sorted, end)| [&sorted, &file[end..]].concat())
}

fn without_times(rows: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(rows);
    let row = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(mut row)) => {
            row.retain(|name, _| name != "seconds" && name != "tokens_per_second");
            Value::Object(row).to_string()
        }
        _ => line.to_owned(),
    };
    text.lines().map(row).collect::<Vec<_>>().join("\n").into_bytes()
}

/// How what is there differs from what must be; nothing where it does not.
pub fn difference(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    let lost: Vec<_> = expected.keys().filter(|name| !found.contains_key(*name)).collect();
    let left: Vec<_> = found.keys().filter(|name| !expected.contains_key(*name)).collect();
    let other = |name: &&String| found.get(*name).is_some_and(|bytes| *bytes != expected[*name]);
    let other: Vec<_> = expected.keys().filter(other).collect();
    let is_same = lost.is_empty() && left.is_empty() && other.is_empty();
    (!is_same).then(|| format!("lost {lost:?}, differing {other:?}, leftovers {left:?}"))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Runs it where later cases find what it wrote.
fn run_once(case: &Case, dir: &Path) -> PathBuf {
    case.start(dir);
    let output = case.run(dir, &[]);
    assert!(output.status.success(), "{}: {}", case.name, String::from_utf8_lossy(&output.stderr));
    dir.to_owned()
}

/// All verbs that write, or those that `DQO_FAULTS_VERB` begins the names of; what they read is made in `root`.
pub fn cases(root: &Path) -> Vec<Case> {
    let path = |path: PathBuf| path.display().to_string();
    let (model, set, lora) = (path(asset("model")), path(golden("dqo/llama")), path(golden("lora/llama")));
    let mut cases = Vec::new();
    let case = |name: &'static str, resumes: bool, args: String, inputs: &[(PathBuf, &str)]| -> Case {
        let template = root.join(name.replace(' ', "-"));
        fs::create_dir_all(&template).unwrap();
        for (from, to) in inputs {
            let to = template.join(to);
            if from.is_dir() { copy_dir(from, &to) } else { fs::copy(from, to).map(|_| ()).unwrap() }
        }
        Case { name, args: words(&args), resumes, template }
    };
    let problems = root.join("problems.jsonl");
    let text = fs::read_to_string(asset("train.jsonl")).unwrap();
    fs::write(&problems, text.lines().take(3).flat_map(|line| [line, "\n"]).collect::<String>()).unwrap();
    let rows = golden("dqo/llama/rows.jsonl");

    let train = "train --device cpu --output-dir out";
    let networks = format!("--model {set}/policy --value-model {set}/value --data rows.jsonl --batch-size 3");
    cases.push(case(
        "train",
        true,
        format!("{train} --method dqo {networks} --max-steps 4 --save-steps 1 --save-total-limit 2"),
        &[(rows.clone(), "rows.jsonl")],
    ));
    let asks = format!("--task gsm8k --model {model} --max-new-tokens 8");
    let sample = case(
        "sample",
        true,
        format!("sample --device cpu {asks} --data problems.jsonl --num-samples 2 --batch-size 1 --output rows.jsonl"),
        &[(problems.clone(), "problems.jsonl")],
    );
    let rollouts = run_once(&sample, &root.join("sampled")).join("rows.jsonl");
    cases.push(sample);
    let evaluated = case(
        "train, eval",
        true,
        format!(
            "{train} --method dqo {asks} --data rows.jsonl --batch-size 3 --max-steps 2 --eval-data problems.jsonl \
             --eval-steps 1"
        ),
        &[(rollouts.clone(), "rows.jsonl"), (problems.clone(), "problems.jsonl")],
    );
    let learned = run_once(&evaluated, &root.join("learned"));
    cases.push(evaluated);
    cases.push(case(
        "train, lora",
        true,
        format!("{train} --method sft --model {lora}/model --lora-r 2 --data rows.jsonl --max-steps 2 --save-steps 1"),
        &[(golden("lora/llama/rows.jsonl"), "rows.jsonl")],
    ));
    cases.push(case(
        "train, ppo",
        true,
        format!(
            "{train} --method ppo {asks} --data problems.jsonl --rollouts-per-round 2 --num-samples 2 --batch-size 2 --max-steps 3 \
             --save-steps 1"
        ),
        &[(problems.clone(), "problems.jsonl")],
    ));
    cases.push(case(
        "grade",
        false,
        "grade --task gsm8k --data rows.jsonl --output graded.jsonl".to_owned(),
        &[(rollouts.clone(), "rows.jsonl")],
    ));
    cases.push(case(
        "process-reward",
        true,
        format!(
            "process-reward --device cpu {asks} --data rows.jsonl --num-samples 1 --batch-size 1 --output scored.jsonl"
        ),
        &[(rollouts.clone(), "rows.jsonl")],
    ));
    cases.push(case(
        "logp",
        false,
        format!("logp --device cpu --model {set}/policy --data rows.jsonl --output logps.jsonl"),
        &[(rows.clone(), "rows.jsonl")],
    ));
    for (name, output) in [("values", "values.jsonl"), ("values, page", "values.html")] {
        let args = format!("values --device cpu --value value --data rows.jsonl --output {output}");
        let inputs = [(learned.join("out/final/value"), "value"), (rollouts.clone(), "rows.jsonl")];
        cases.push(case(name, false, args, &inputs));
    }
    cases.push(case(
        "eval",
        false,
        format!("eval --device cpu {asks} --data problems.jsonl --batch-size 1 --output predictions.jsonl"),
        &[(problems, "problems.jsonl")],
    ));
    cases.push(case(
        "merge",
        false,
        format!("merge --model {lora}/model --adapter {lora}/policy --output merged"),
        &[],
    ));
    cases.push(case("export", false, format!("export --model {lora}/model --output model.gguf"), &[]));
    cases.push(case(
        "demo",
        true,
        "demo --device cpu --max-problems 1 --num-train-epochs 1 --output-dir out".to_owned(),
        &[],
    ));
    let trained = run_once(&cases[0], &root.join("trained"));
    cases.push(case("report", false, "report out --output page.html".to_owned(), &[(trained.join("out"), "out")]));
    let verb = std::env::var("DQO_FAULTS_VERB").unwrap_or_default();
    cases.retain(|case| case.name.starts_with(&verb));
    assert!(!cases.is_empty(), "DQO_FAULTS_VERB={verb}: no verb's name begins so");
    cases
}

/// All points are taken, not some.
pub fn takes_all() -> bool {
    std::env::var("DQO_FAULTS").is_ok_and(|how| how == "all")
}

/// What decides which points are taken: `DQO_FAULTS_SEED`, or the clock.
pub fn seed() -> usize {
    static SEED: OnceLock<usize> = OnceLock::new();
    *SEED.get_or_init(|| {
        let given = std::env::var("DQO_FAULTS_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.subsec_nanos() as usize / 1000);
        let seed = given.unwrap_or_else(clock);
        println!("DQO_FAULTS_SEED={seed}");
        seed
    })
}

/// Does something with each of many by two threads, as points are short.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let half = items.len().div_ceil(2);
    std::thread::scope(|scope| {
        let work = &work;
        let parts: Vec<_> = items
            .chunks(half.max(1))
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<R>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}
