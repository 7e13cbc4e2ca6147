//! The reference's log-probs: kept beside the rollouts, found again, and never believed where they are damaged.

use std::fs;
use std::path::{Path, PathBuf};

use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::train::OptimizerType;
use safetensors::SafeTensors;
use serde_json::json;

use crate::command::{copy_of, error_of, stderr, train};
use crate::model::golden;
use crate::training::{config, tensors, train as train_here, with};

/// Rollouts and a reference model of their own, which tests may change.
struct Fixture {
    dir: tempfile::TempDir,
    rows: PathBuf,
    reference: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows = dir.path().join("rollouts.jsonl");
        fs::copy(golden("dqo/qwen2/rows.jsonl"), &rows).unwrap();
        let reference = copy_of("dqo/qwen2/reference", &dir.path().join("reference"));
        Self { dir, rows, reference }
    }

    fn output(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, output: &Path, more: &[&str]) -> std::process::Command {
        let mut command = train("dqo/qwen2", &self.rows, output);
        command.args(["--learning-rate", "1e-3", "--max-steps", "3", "--ref-model"]).arg(&self.reference).args(more);
        command
    }

    /// Trains; what it said.
    #[track_caller]
    fn train(&self, output: &Path, more: &[&str]) -> String {
        let output = self.command(output, more).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    }

    /// The files beside the rollouts.
    fn kept(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.kept_in()).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
        entries.unwrap_or_default()
    }

    fn kept_in(&self) -> PathBuf {
        self.dir.path().join("rollouts.jsonl.reference")
    }

    /// Another reference of the same shapes.
    fn change_reference(&self) {
        let path = self.reference.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

fn weights(output: &Path) -> [Vec<u8>; 2] {
    ["policy", "value"].map(|part| fs::read(output.join("final").join(part).join("model.safetensors")).unwrap())
}

const COMPUTED: &str = "reference rollouts.jsonl 4/4";

#[test]
fn the_next_run_finds_them() {
    let set = Fixture::new();
    let (first, second) = (set.output("first"), set.output("second"));
    assert!(set.train(&first, &[]).contains(COMPUTED));
    let [kept] = &set.kept()[..] else { panic!("{:?}", set.kept()) };
    let said = set.train(&second, &[]);
    let found = format!("reference log-probs: found in {}\n", kept.display());
    assert!(said.contains(&found) && !said.contains(COMPUTED), "{said}");
    assert!(weights(&first) == weights(&second));
    let record = fs::read_to_string(second.join("reference.json")).unwrap();
    assert!(record.contains(kept.to_str().unwrap()), "{record}");
}

#[test]
fn others_are_not_taken_for_them() {
    let set = Fixture::new();
    let run = |name: &str, more: &[&str]| set.train(&set.output(name), more);
    run("first", &[]);
    // Other ids; other rounding, twice.
    for (index, more) in
        [["--max-length", "8"], ["--tokens-per-micro-batch", "24"], ["--dtype", "bf16"]].iter().enumerate()
    {
        let said = run(more[0], more);
        assert!(!said.contains("found in"), "{more:?}: {said}");
        assert_eq!(set.kept().len(), index + 2);
    }
    set.change_reference();
    assert!(!run("model", &[]).contains("found in"));
    let config = set.reference.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen("\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1e-05", 1)).unwrap();
    assert!(!run("config", &[]).contains("found in"));
    assert_eq!(set.kept().len(), 6);
}

#[test]
fn a_damaged_or_foreign_file_is_not_believed() {
    let set = Fixture::new();
    set.train(&set.output("first"), &[]);
    let kept = set.kept().remove(0);
    let (whole, logps) = (fs::read(&kept).unwrap(), tensors(&kept));
    set.train(&set.output("foreign"), &["--tokens-per-micro-batch", "24"]);
    let foreign = set.kept().into_iter().find(|path| *path != kept).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cases = [
        (flipped, "is damaged"),
        (fs::read(foreign).unwrap(), "is of another model, of other rows or of another device"),
        (whole[..whole.len() - 8].to_vec(), "not a whole safetensors file"),
        (b"nothing of the kind".to_vec(), "not a whole safetensors file"),
    ];
    for (index, (contents, reason)) in cases.into_iter().enumerate() {
        fs::write(&kept, contents).unwrap();
        let output = set.output(&format!("case-{index}"));
        let said = set.train(&output, &[]);
        let expected = format!("reference log-probs: {}: {reason}", kept.display());
        assert!(said.contains(&expected) && said.contains(COMPUTED), "{said}");
        assert!(tensors(&kept) == logps);
        assert!(weights(&output) == weights(&set.output("first")));
    }
}

#[test]
fn where_the_data_cannot_be_written_beside_the_run_keeps_them() {
    let set = Fixture::new();
    // A file where the directory would be: as unwritable to root as to others.
    fs::write(set.kept_in(), "").unwrap();
    let output = set.output("out");
    let own = output.join("reference.safetensors");
    let said = set.train(&output, &[]);
    let expected = format!("reference log-probs: {}: cannot be made: ", set.kept_in().display());
    assert!(said.contains(&expected) && said.contains(&format!("; kept in {} instead", own.display())), "{said}");
    let said = set.train(&output, &["--resume", "--max-steps", "4"]);
    assert!(said.contains(&format!("reference log-probs: found in {}", own.display())), "{said}");
}

#[test]
fn a_run_goes_on_to_the_bit_when_they_are_gone() {
    let set = Fixture::new();
    let (whole, cut, gone) = (set.output("whole"), set.output("cut"), set.output("gone"));
    set.train(&whole, &["--max-steps", "6"]);
    set.train(&cut, &[]);
    set.train(&gone, &[]);

    fs::remove_dir_all(set.kept_in()).unwrap();
    let said = set.train(&cut, &["--resume", "--max-steps", "6"]);
    assert!(said.contains(COMPUTED), "{said}");
    assert!(weights(&cut) == weights(&whole));

    // The reference is another by now, and the run is one of a version that kept no account of what it was made from: what
    // is kept is what the run began with, and nothing else will do.
    set.change_reference();
    let config = gone.join("config.toml");
    let without_inputs = || {
        let mut table: toml::Table = fs::read_to_string(&config).unwrap().parse().unwrap();
        assert!(table.remove("inputs").is_some());
        fs::write(&config, table.to_string()).unwrap();
    };
    without_inputs();
    let mut more = set.command(&gone, &["--resume", "--max-steps", "6"]);
    assert!(more.output().unwrap().status.success());
    assert!(weights(&gone) == weights(&whole));
    fs::remove_dir_all(set.kept_in()).unwrap();
    without_inputs();
    let message = error_of(&mut set.command(&gone, &["--resume", "--max-steps", "7"]));
    let expected = "is gone or damaged, and cannot be computed again: model changed since the run began; put the file \
                    back, or start a new run in another --output-dir";
    assert!(message.ends_with(expected), "{message}");

    without_inputs();
    fs::write(&set.rows, fs::read_to_string(&set.rows).unwrap().lines().next().unwrap()).unwrap();
    let message = error_of(&mut set.command(&gone, &["--resume", "--max-steps", "7"]));
    assert!(message.ends_with("a run goes on with the data it began with"), "{message}");
}

/// A model of `layers` layers: those of a golden one, again and again.
fn deepened(model: &Path, layers: usize) {
    let path = model.join("config.json");
    let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let before = json["num_hidden_layers"].as_u64().unwrap() as usize;
    json["num_hidden_layers"] = layers.into();
    json.as_object_mut().unwrap().remove("layer_types");
    fs::write(path, json.to_string()).unwrap();

    let path = model.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (mut layer, mut tensors) = (Vec::new(), Vec::new());
    for (name, view) in file.tensors() {
        match name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            Some((index, part)) => layer.push((index.parse::<usize>().unwrap(), part.to_owned(), view)),
            None => tensors.push((name, view)),
        }
    }
    for index in 0..layers {
        let parts = layer.iter().filter(|(from, _, _)| *from == index % before);
        tensors.extend(parts.map(|(_, part, view)| (format!("model.layers.{index}.{part}"), view.clone())));
    }
    safetensors::serialize_to_file(tensors, None, &path).unwrap();
}

#[test]
fn a_reference_whose_log_probs_are_known_is_not_loaded() {
    let set = Fixture::new();
    deepened(&set.reference, 100);
    let peak = |name: &str| {
        let base = config(&golden("dqo/qwen2"), "", &set.output(name));
        let config = with(
            base,
            json!({
                "data": set.rows.clone(), "ref_model": set.reference.display().to_string(),
                "optimizer": OptimizerType::Sgd, "max_steps": 1,
            }),
        );
        train_here(config, &Device::cpu(Precision::F32))[0]["peak_memory_bytes"].as_u64().unwrap()
    };
    let (computed, found) = (peak("first"), peak("second"));
    assert!(found < computed / 2, "{found} of {computed} bytes");
}
