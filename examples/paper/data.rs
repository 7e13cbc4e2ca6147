//! What all experiments share: a base, problems, and the rollouts of the base and of a younger policy.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use toml::{Table, toml};

use crate::lab::{Lab, rows_of};
use crate::task::{CARELESS, Sum, TEXTBOOK};

/// Responses to each training problem.
pub const NUM_SAMPLES: usize = 12;

/// Passes over the demonstrations.
const TEACHING: i64 = 6;
/// Those of the younger policy.
const YOUNG_TEACHING: i64 = 2;

/// Files that all experiments share.
pub struct Data {
    pub base: PathBuf,
    /// The data set's solutions to the training problems.
    pub solutions: PathBuf,
    pub problems: PathBuf,
    pub validation: PathBuf,
    pub test: PathBuf,
    /// Of the base, and with process rewards.
    pub rollouts: PathBuf,
    pub scored: PathBuf,
    /// Of a policy that saw a third of the demonstrations' passes: off-policy data for the base.
    pub young: PathBuf,
    /// Of the base to the validation problems, with process rewards.
    pub held_back: PathBuf,
}

impl Data {
    /// Makes what is not there yet.
    pub fn prepare(lab: &Lab) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut seen = HashSet::new();
        let [taught, problems, validation, test] =
            [12_000, 200, 200, 500].map(|count| Sum::draw(count, &mut seen, &mut rng));
        let mut written = |name: &str, sums: &[Sum], writer| {
            lab.rows(name, || sums.iter().map(|sum| sum.demonstration(writer, &mut rng)).collect())
        };
        let demonstrations = written("demonstrations.jsonl", &taught, &CARELESS)?;
        let solutions = written("solutions.jsonl", &problems, &TEXTBOOK)?;
        let asked = |name: &str, sums: &[Sum]| lab.rows(name, || sums.iter().map(|sum| sum.problem()).collect());
        let problems = asked("problems.jsonl", &problems)?;
        let validation = asked("validation.jsonl", &validation)?;
        let test = asked("test.jsonl", &test)?;

        let start = random_model(&lab.path("start"))?;
        let base = lab.train("base", &teaching(TEACHING, &start, &demonstrations))?.join("final/policy");
        let rollouts = lab.sample("rollouts.jsonl", &base, &problems, NUM_SAMPLES)?;
        let scored = lab.process_rewards("scored.jsonl", &base, &rollouts)?;
        let young = lab.train("young", &teaching(YOUNG_TEACHING, &start, &demonstrations))?.join("final/policy");
        let young = lab.sample("young-rollouts.jsonl", &young, &problems, NUM_SAMPLES)?;
        let held_back = lab.sample("validation-rollouts.jsonl", &base, &validation, 4)?;
        let held_back = lab.process_rewards("validation-scored.jsonl", &base, &held_back)?;
        Ok(Self { base, solutions, problems, validation, test, rollouts, scored, young, held_back })
    }
}

fn teaching(passes: i64, start: &Path, demonstrations: &Path) -> Table {
    let settings = toml! { method = "sft"
        batch_size = 64
        learning_rate = 2e-3
        lr_scheduler_type = "cosine"
        warmup_ratio = 0.05
        num_train_epochs = passes
    };
    on(settings, start, demonstrations)
}

/// Settings with a model and its data.
pub fn on(mut settings: Table, model: &Path, rows: &Path) -> Table {
    settings.insert("model".to_owned(), model.display().to_string().into());
    settings.insert("data".to_owned(), rows.display().to_string().into());
    settings
}

/// The demo's architecture and tokenizer, with random weights.
fn random_model(dir: &Path) -> Result<PathBuf> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    std::fs::create_dir_all(dir)?;
    for entry in std::fs::read_dir(&demo)? {
        let entry = entry?;
        if entry.file_name() != "model.safetensors" {
            std::fs::copy(entry.path(), dir.join(entry.file_name()))?;
        }
    }
    let bytes = std::fs::read(demo.join("model.safetensors"))?;
    let shapes = SafeTensors::deserialize(&bytes)?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut weights: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for (name, tensor) in shapes.tensors() {
        let count: usize = tensor.shape().iter().product();
        let is_norm = name.ends_with("norm.weight");
        // Uniform, of the standard deviation 0.08.
        let width = 0.08 * 3f32.sqrt();
        let value = |_| if is_norm { 1.0 } else { rng.random_range(-width..width) };
        weights.push((name, tensor.shape().to_vec(), (0..count).map(value).collect()));
    }
    let views = weights.iter().map(|(name, shape, values)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values))?;
        Ok::<_, anyhow::Error>((name.as_str(), view))
    });
    let contents = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?;
    dqo_wgpu::files::write_file(&dir.join("model.safetensors"), &contents)?;
    Ok(dir.to_owned())
}

/// Rows of a file, and those that are right.
pub fn count(rollouts: &Path) -> Result<(usize, usize)> {
    let rows = rows_of(rollouts)?;
    Ok((rows.len(), rows.iter().filter(|row| row["reward"].as_f64() > Some(0.5)).count()))
}
