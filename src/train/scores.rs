//! What the networks say of a round's response tokens before its first step, kept beside the round's rows.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::model::Checkpoint;

/// A number for every response token, example after example.
#[derive(Serialize, Deserialize)]
pub struct Scores {
    pub logps_old: Vec<f64>,
    pub logps_ref: Vec<f64>,
    pub values_old: Vec<f64>,
}

const LOGPS_OLD: &str = "logps_old";
const LOGPS_REF: &str = "logps_ref";
const VALUES_OLD: &str = "values_old";
const ROWS_SHA256: &str = "rows_sha256";

impl Scores {
    /// Keeps the scores of the rows in `rows`.
    ///
    /// # Errors
    /// Names the file that cannot be read or written.
    pub fn write(&self, path: &Path, rows: &Path) -> Result<()> {
        let tensors = [(LOGPS_OLD, &self.logps_old), (LOGPS_REF, &self.logps_ref), (VALUES_OLD, &self.values_old)];
        let mut views = Vec::new();
        for (name, values) in tensors {
            let view = TensorView::new(Dtype::F64, vec![values.len()], bytemuck::cast_slice(values))?;
            views.push((name, view));
        }
        let metadata = [(ROWS_SHA256.to_owned(), files::digest_of(rows)?.sha256)].into();
        files::write_file(path, &safetensors::serialize(views, Some(metadata))?)
    }

    /// The scores that were kept of the rows in `rows`, which have `count` response tokens.
    ///
    /// # Errors
    /// Names the file that cannot be read, or was made of other rows.
    pub fn read(path: &Path, rows: &Path, count: usize) -> Result<Self> {
        let file = Checkpoint::open_file(path)?;
        let belongs = file.metadata(ROWS_SHA256) == Some(files::digest_of(rows)?.sha256);
        let tensor = |name: &str| {
            let (shape, values) = file.tensor(name).with_context(|| path.display().to_string())?;
            ensure!(
                belongs && shape == [count],
                "{}: was made of other rows than {} has; a run goes on with the rows it sampled",
                path.display(),
                rows.display()
            );
            Ok(values.range(0, count).collect::<Vec<f64>>())
        };
        Ok(Self { logps_old: tensor(LOGPS_OLD)?, logps_ref: tensor(LOGPS_REF)?, values_old: tensor(VALUES_OLD)? })
    }
}
