//! What an output is made from: the files that were read, each by what is in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use super::digest::digest_of;
use super::names::is_gguf;
use super::stream::is_stream;

/// The files that the options of a command name.
#[derive(Default)]
pub struct InputFiles {
    /// By option and, of a directory, by the file in it: `--data`, `--model config.json`.
    paths: BTreeMap<String, PathBuf>,
}

/// What is in each of them: SHA-256, by the same names.
pub type Digests = BTreeMap<String, String>;

/// What the files of a model end in.
const OF_MODELS: [&str; 3] = ["json", "jinja", "safetensors"];

impl InputFiles {
    /// With a file that an option names.
    pub fn with_file(mut self, option: &str, path: &Path) -> Self {
        self.paths.insert(option.to_owned(), path.to_owned());
        self
    }

    /// With the files of a model, or of an adapter: what is in the directory itself, or the one file.
    ///
    /// # Errors
    /// Where it cannot be listed.
    pub fn with_model(mut self, option: &str, dir: &Path) -> Result<Self> {
        if is_gguf(dir) {
            return Ok(self.with_file(option, dir));
        }
        let context = || format!("{}: cannot be listed", dir.display());
        for entry in fs::read_dir(dir).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let is_read = path.extension().is_some_and(|ending| OF_MODELS.iter().any(|known| ending == *known));
            if is_read && path.is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.paths.insert(format!("{option} {name}"), path);
            }
        }
        Ok(self)
    }

    /// The size of all.
    pub fn bytes(&self) -> u64 {
        self.paths.values().filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
    }

    /// What is in them now. Reads every byte.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn digests(&self) -> Result<Digests> {
        let digest = |(name, path): (&String, &PathBuf)| Ok((name.clone(), digest_of(path)?.sha256));
        self.paths.par_iter().map(digest).collect()
    }

    /// Refuses files that are not what they were.
    ///
    /// # Errors
    /// Names the first.
    pub(super) fn compare(&self, before: &Digests, now: &Digests, beginner: &str) -> Result<()> {
        for name in before.keys().chain(now.keys()) {
            let is = match (before.get(name), now.get(name)) {
                (before, now) if before == now => continue,
                (_, None) => "is gone",
                (None, _) => "is new",
                _ => "has changed",
            };
            let option = name.split(' ').next().unwrap_or(name);
            let path = self.paths.get(name);
            if path.is_some_and(|path| is_stream(path)) {
                bail!(
                    "--resume: standard input ({option}) {is} since {beginner} began; give it what it had then, or begin \
                     another one"
                );
            }
            let file = path.map(|path| format!("{} ({option})", path.display()));
            let file = file.unwrap_or_else(|| name.clone());
            bail!("--resume: {file} {is} since {beginner} began; put it back as it was, or begin another one");
        }
        Ok(())
    }
}
