//! `--config FILE`: options from a file, under those of the command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::INPUTS;
use crate::train::{MethodArgs, TrainConfig, TrainSettings};

/// The configuration of the command line over that of a file, where there is one: what the user typed wins, then the
/// file, then the defaults. The file's keys are the options' names with `_` for `-`.
///
/// # Errors
/// Names the file and the key that is unknown or wrong.
pub fn merge<C>(config: C, matches: &ArgMatches, file: Option<&Path>) -> Result<C>
where
    C: Args + Serialize + DeserializeOwned,
{
    let Some(file) = file else { return Ok(config) };
    let command = C::augment_args(Command::new("options"));
    let mut merged = toml::Table::try_from(config)?;
    for (name, value) in read(file)? {
        if command.get_arguments().all(|argument| argument.get_id() != name.as_str()) {
            bail!("{}: unknown key `{name}`; keys are the options' names with _ for -", file.display());
        }
        if !was_typed(matches, &name) {
            merged.insert(name, value);
        }
    }
    merged.try_into().map_err(|error: toml::de::Error| anyhow::anyhow!("{}: {}", file.display(), error.message()))
}

/// As [`merge`], of a training run: its options and its method's.
///
/// # Errors
/// As [`merge`], and where an option is not one of the method.
pub fn merge_training(
    config: TrainConfig,
    method: MethodArgs,
    matches: &ArgMatches,
    file: Option<&Path>,
) -> Result<TrainSettings> {
    let mut table = file.map(read).transpose()?.unwrap_or_default();
    let typed = toml::Table::try_from(config)?.into_iter().filter(|(name, _)| was_typed(matches, name));
    table.extend(typed);
    let settings = TrainSettings::of_table(method.over(table)?);
    match file {
        Some(file) => settings.map_err(|error| anyhow::anyhow!("{}: {error}", file.display())),
        None => settings,
    }
}

fn was_typed(matches: &ArgMatches, name: &str) -> bool {
    matches.value_source(name) == Some(ValueSource::CommandLine)
}

fn read(file: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let mut table: toml::Table = text.parse().with_context(|| format!("{}: is not TOML", file.display()))?;
    // What a run was made from, which another one need not be.
    table.remove(INPUTS);
    Ok(table)
}

/// The configuration file that a run uses: the one named, or for `--resume` that of the run itself.
pub fn config_file(named: Option<PathBuf>, resume: bool, output_dir: Option<&Path>) -> Option<PathBuf> {
    let own = || output_dir.map(|dir| dir.join("config.toml")).filter(|path| resume && path.exists());
    named.or_else(own)
}
