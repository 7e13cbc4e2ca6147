//! The reference policy's log-probs: computed once, before training, and kept in the run's directory.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use super::logps::Scorer;
use crate::data::Example;
use crate::model::Checkpoint;

/// Log-probs of every example's response tokens under the reference policy.
pub struct ReferenceLogps {
    /// All examples' tokens, end to end.
    logps: Vec<f64>,
    /// Where each example's start, and where the last one's end.
    starts: Vec<usize>,
}

const FILE: &str = "reference.safetensors";
const LOGPS: &str = "logps";
const FINGERPRINT: &str = "fingerprint";

impl ReferenceLogps {
    /// The log-probs of an example's response tokens.
    pub fn of(&self, example: usize) -> &[f64] {
        &self.logps[self.starts[example]..self.starts[example + 1]]
    }

    /// Scores all examples and keeps the result in `dir`.
    ///
    /// # Errors
    /// Where the device fails or the file cannot be written.
    pub fn compute(
        scorer: &mut Scorer,
        examples: &[Example],
        dir: &Path,
        mut progress: impl FnMut(usize),
    ) -> Result<Self> {
        let starts = starts(examples);
        let mut logps = Vec::with_capacity(starts.last().copied().unwrap_or(0));
        scorer.score(examples, |_, scored| {
            progress(scored.len());
            logps.extend(scored.into_iter().flat_map(|scored| scored.logps));
            Ok(())
        })?;
        let path = dir.join(FILE);
        let bytes: &[u8] = bytemuck::cast_slice(&logps);
        let view = TensorView::new(Dtype::F64, vec![logps.len()], bytes)?;
        let metadata = [(FINGERPRINT.to_owned(), fingerprint(examples))].into();
        let contents = safetensors::serialize([(LOGPS, view)], Some(metadata))?;
        super::atomic::write_file(&path, &contents)?;
        Ok(Self { logps, starts })
    }

    /// What an earlier part of the run kept in `dir`, if it did.
    ///
    /// # Errors
    /// Where the file is damaged or was made of other examples.
    pub fn load(dir: &Path, examples: &[Example]) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let file = Checkpoint::open_file(&path)?;
        let (shape, values) = file.tensor(LOGPS).with_context(|| path.display().to_string())?;
        let starts = starts(examples);
        let count = starts.last().copied().unwrap_or(0);
        ensure!(
            shape == [count] && file.metadata(FINGERPRINT) == Some(fingerprint(examples)),
            "{}: was made of other rows than --data has now; a run goes on with the data it began with",
            path.display()
        );
        Ok(Some(Self { logps: values.range(0, count).collect(), starts }))
    }
}

/// Where each example's response tokens start when they stand end to end, and where the last one's end.
pub(super) fn starts(examples: &[Example]) -> Vec<usize> {
    let ends = examples.iter().scan(0, |end, example| {
        *end += example.completion_ids.len();
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// What the examples' log-probs depend on.
fn fingerprint(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        for ids in [&example.prompt_ids, &example.completion_ids] {
            hash.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
