//! `--config FILE`: options from a file, under those of the command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The configuration of the command line over that of a file, where there is one: what the user typed wins, then the
/// file, then the defaults. The file's keys are the options' names with `_` for `-`.
///
/// # Errors
/// Names the file and the key that is unknown or wrong.
pub fn merge<C: Serialize + DeserializeOwned>(config: C, matches: &ArgMatches, file: Option<&Path>) -> Result<C> {
    let Some(file) = file else { return Ok(config) };
    let text = std::fs::read_to_string(file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let settings: toml::Table = text.parse().with_context(|| format!("{}: is not TOML", file.display()))?;
    let mut merged = toml::Table::try_from(config)?;
    for (name, value) in settings {
        let Ok(given) = matches.try_contains_id(&name) else {
            bail!("{}: unknown key `{name}`; keys are the options' names with _ for -", file.display());
        };
        if !(given && matches.value_source(&name) == Some(ValueSource::CommandLine)) {
            merged.insert(name, value);
        }
    }
    merged.try_into().map_err(|error: toml::de::Error| anyhow::anyhow!("{}: {}", file.display(), error.message()))
}

/// The configuration file that a run uses: the one named, or for `--resume` that of the run itself.
pub fn config_file(named: Option<PathBuf>, resume: bool, output_dir: Option<&Path>) -> Option<PathBuf> {
    let own = || output_dir.map(|dir| dir.join("config.toml")).filter(|path| resume && path.exists());
    named.or_else(own)
}
