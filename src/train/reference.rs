//! The reference policy's log-probs: computed once, before training, and kept beside the rollouts for the next run.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::logps::{Scorer, WINDOW};
use super::source::Source;
use crate::data::Example;
use crate::device::Device;
use crate::files::{self, hex};
use crate::model::Checkpoint;
use crate::model::WeightOptions;

/// Log-probs of every example's response tokens under the reference policy.
#[derive(Serialize, Deserialize)]
pub struct ReferenceLogps {
    /// All examples' tokens, end to end.
    logps: Vec<f64>,
    /// Where each example's start, and where the last one's end.
    starts: Vec<usize>,
}

/// All that the log-probs depend on, to the bit: what tells kept ones apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The program and its version.
    program: String,
    /// SHA-256 over the model's configuration and the whole of its weight files, and of its adapters'.
    model: String,
    /// SHA-256 over the ids of every prompt and response.
    rows: String,
    #[serde(flatten)]
    weights: WeightOptions,
    device: String,
    tokens_per_micro_batch: usize,
}

/// Where log-probs are kept: beside the rollouts, or in the run's own directory where nothing can be written there.
pub struct ReferenceStore<'a> {
    /// The run's directory.
    pub run: &'a Path,
    /// The rollouts' file.
    pub data: &'a Path,
    pub examples: &'a [Example],
}

/// `OUT/reference.json`: which file a run uses.
#[derive(Serialize, Deserialize)]
struct Record {
    file: PathBuf,
    origin: Origin,
}

const RECORD: &str = "reference.json";
/// In the run's directory.
const FILE: &str = "reference.safetensors";
const LOGPS: &str = "logps";
const ORIGIN: &str = "origin";
const SHA256: &str = "sha256";

/// What the pass of the reference leaves in a run's directory.
pub(super) const REFERENCE_FILES: [&str; 2] = [RECORD, FILE];

impl ReferenceLogps {
    /// The log-probs of an example's response tokens.
    pub fn of(&self, example: usize) -> &[f64] {
        &self.logps[self.starts[example]..self.starts[example + 1]]
    }

    /// Scores all examples; `finished` gets how many more are done and says whether to go on. `None` where it did not, on any of
    /// the scorer's ranks.
    ///
    /// # Errors
    /// Where the device fails or a log-prob is not finite.
    pub fn compute(
        scorer: &mut Scorer,
        examples: &[Example],
        mut finished: impl FnMut(usize) -> bool,
    ) -> Result<Option<Self>> {
        let starts = starts(examples);
        let mut logps = Vec::with_capacity(starts.last().copied().unwrap_or(0));
        for window in examples.chunks(WINDOW) {
            scorer.score(window, |_, scored| {
                logps.extend(scored.into_iter().flat_map(|scored| scored.logps));
                Ok(())
            })?;
            let stops = !finished(window.len());
            if scorer.ranks().any(stops)? {
                return Ok(None);
            }
        }
        Ok(Some(Self { logps, starts }))
    }
}

/// What computes log-probs, beside the model.
#[derive(Clone, Copy)]
pub struct Scorers<'a> {
    pub device: &'a Device,
    pub weights: WeightOptions,
    pub tokens_per_micro_batch: usize,
}

impl Origin {
    /// Of log-probs that are computed with this model. Reads all of its weights.
    pub fn new(source: Source, checkpoint: &Checkpoint, examples: &[Example], scorers: Scorers) -> Self {
        let Scorers { device, weights, tokens_per_micro_batch } = scorers;
        let mut model = Sha256::new();
        model.update(serde_json::Value::from(source.config.json.clone()).to_string());
        model.update(checkpoint.digest());
        if let Some(adapter) = source.adapter {
            model.update(adapter.digest());
        }
        Self {
            program: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: hex(&model.finalize()),
            rows: rows(examples),
            weights,
            device: device.kind(),
            tokens_per_micro_batch,
        }
    }

    /// Names of what differs.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            ("program", self.program == other.program),
            ("model", self.model == other.model),
            ("rows", self.rows == other.rows),
            ("dtype", self.weights.dtype == other.weights.dtype),
            ("base", self.weights.base == other.weights.base),
            ("base_head", self.weights.base_head == other.weights.base_head),
            ("device", self.device == other.device),
            ("tokens_per_micro_batch", self.tokens_per_micro_batch == other.tokens_per_micro_batch),
        ];
        parts.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl ReferenceStore<'_> {
    /// What an earlier part of the run used, where it is still there and whole.
    ///
    /// # Errors
    /// Where the rows are others by now.
    pub fn of_run(&self, note: impl Fn(&str)) -> Result<Option<ReferenceLogps>> {
        let Some(Record { file, origin }) = self.record() else { return Ok(None) };
        ensure!(
            origin.rows == rows(self.examples),
            "{}: the run began with other rows than --data has now; a run goes on with the data it began with",
            self.run.join(RECORD).display()
        );
        for path in [file, self.run.join(FILE)] {
            if let Ok(Some(logps)) = self.read(&path, &origin) {
                note(&found(&path));
                return Ok(Some(logps));
            }
        }
        Ok(None)
    }

    /// What any run kept of the same origin, whole.
    ///
    /// # Errors
    /// Where this run began with log-probs of another origin, or its directory cannot be written.
    pub fn find(&self, origin: &Origin, note: impl Fn(&str)) -> Result<Option<ReferenceLogps>> {
        if let Some(record) = self.record().filter(|record| record.origin != *origin) {
            anyhow::bail!(
                "{}: {} is gone or damaged, and cannot be computed again: {} changed since the run began; put the file \
                 back, or start a new run in another --output-dir",
                self.run.join(RECORD).display(),
                record.file.display(),
                record.origin.differences(origin).join(", ")
            );
        }
        for path in [self.shared_file(origin), self.run.join(FILE)] {
            match self.read(&path, origin) {
                Ok(Some(logps)) => {
                    note(&found(&path));
                    self.write_record(path, origin)?;
                    return Ok(Some(logps));
                }
                Ok(None) => {}
                Err(error) => note(&format!("reference log-probs: {error:#}; they are computed again")),
            }
        }
        Ok(None)
    }

    /// Keeps what was computed.
    ///
    /// # Errors
    /// Where not even the run's directory can be written.
    pub fn keep(&self, logps: &ReferenceLogps, origin: &Origin, note: impl Fn(&str)) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(&logps.logps);
        let view = TensorView::new(Dtype::F64, vec![logps.logps.len()], bytes)?;
        let metadata =
            [(ORIGIN.to_owned(), origin.to_string()), (SHA256.to_owned(), hex(&Sha256::digest(bytes)))].into();
        let contents = safetensors::serialize([(LOGPS, view)], Some(metadata))?;
        let mut path = self.shared_file(origin);
        let parent = path.parent().unwrap_or(self.run);
        let written = fs::create_dir_all(parent)
            .with_context(|| format!("{}: cannot be made", parent.display()))
            .and_then(|()| files::write_file(&path, &contents));
        if let Err(error) = written {
            path = self.run.join(FILE);
            note(&format!("reference log-probs: {error:#}; kept in {} instead", path.display()));
            files::write_file(&path, &contents)?;
        }
        self.write_record(path, origin)
    }

    /// `ROLLOUTS.reference/KEY.safetensors`; of rows that came through standard input the run's own file.
    fn shared_file(&self, origin: &Origin) -> PathBuf {
        if files::is_stream(self.data) {
            return self.run.join(FILE);
        }
        let key = hex(&Sha256::digest(origin.to_string()));
        files::with_suffix(self.data, ".reference").join(format!("{}.safetensors", &key[..32]))
    }

    /// A file's log-probs; `None` where there is no file.
    fn read(&self, path: &Path, origin: &Origin) -> Result<Option<ReferenceLogps>> {
        if !path.is_file() {
            return Ok(None);
        }
        let file = Checkpoint::open_file(path)?;
        let (shape, values) = file.tensor(LOGPS).with_context(|| path.display().to_string())?;
        let starts = starts(self.examples);
        let count = starts.last().copied().unwrap_or(0);
        let is_ours = shape == [count] && file.metadata(ORIGIN) == Some(origin.to_string());
        ensure!(is_ours, "{}: is of another model, of other rows or of another device", path.display());
        let logps: Vec<f64> = values.range(0, count).collect();
        let sha256 = hex(&Sha256::digest(bytemuck::cast_slice::<f64, u8>(&logps)));
        ensure!(file.metadata(SHA256) == Some(sha256), "{}: is damaged", path.display());
        Ok(Some(ReferenceLogps { logps, starts }))
    }

    /// What the run recorded; nothing where it cannot be read.
    fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.run.join(RECORD)).ok()?).ok()
    }

    fn write_record(&self, file: PathBuf, origin: &Origin) -> Result<()> {
        let record = Record { file, origin: origin.clone() };
        files::write_file(&self.run.join(RECORD), serde_json::to_string_pretty(&record)?.as_bytes())
    }
}

fn found(path: &Path) -> String {
    format!("reference log-probs: found in {}", path.display())
}

/// Where each example's response tokens start when they stand end to end, and where the last one's end.
pub(super) fn starts(examples: &[Example]) -> Vec<usize> {
    let ends = examples.iter().scan(0, |end, example| {
        *end += example.completion_ids.len();
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// What tells rows apart, as a reference sees them.
fn rows(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        for ids in [&example.prompt_ids, &example.completion_ids] {
            hash.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
    }
    hex(&hash.finalize())
}
