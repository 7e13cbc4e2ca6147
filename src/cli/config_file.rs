//! `--config FILE`: options from a file, under those of the command line.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{ArgMatches, Args, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::given::{config_file, was_typed};
use super::needs::drop_overruled;
use crate::files::spare;
use crate::objective::overlay;
use crate::train::{MethodArgs, TrainConfig, TrainSettings, read_table};

/// The option itself; its value is asked for by [`config_file`].
#[derive(Args)]
pub struct ConfigOption {
    /// Options from a file, such as a run's config.toml; what is typed wins
    #[arg(long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// The configuration of the command line over that of a file, where there is one: what the user typed wins, then the
/// file, then the defaults. The file's keys are the options' names with `_` for `-`.
///
/// # Errors
/// Names the file and the key that is unknown or wrong; or the output, where it would take the file's place.
pub fn merge<C>(config: C, matches: &ArgMatches) -> Result<C>
where
    C: Args + Serialize + DeserializeOwned,
{
    let Some(file) = config_file(matches) else { return Ok(config) };
    let command = C::augment_args(Command::new("options"));
    let mut table = read_table(&file)?;
    let is_known = |name: &str| command.get_arguments().any(|argument| argument.get_id() == name);
    if let Some(name) = table.keys().find(|name| !is_known(name)) {
        bail!("{}: unknown key `{name}`; keys are the options' names with _ for -", file.display());
    }
    // What is typed over a value does not make a wrong one right.
    let named = |error| anyhow::anyhow!("{}: {error}", file.display());
    let defaults = toml::Table::try_from(&config)?;
    overlay::<C>(defaults.clone(), table.clone()).map_err(named)?;
    table.retain(|name, _| !was_typed(matches, name));
    let merged = overlay(defaults, table).map_err(named)?;
    if let Some(toml::Value::String(output)) = toml::Table::try_from(&merged)?.get("output") {
        spare(&[&file], Path::new(output))?;
    }
    Ok(merged)
}

/// As [`merge`], of a training run: its options and its method's.
///
/// # Errors
/// As [`merge`], and where an option is not one of the method.
pub fn merge_training(config: TrainConfig, method: MethodArgs, matches: &ArgMatches) -> Result<TrainSettings> {
    let file = config_file(matches);
    let mut table = file.as_deref().map(read_table).transpose()?.unwrap_or_default();
    if let Some(file) = &file {
        // Before anything is dropped: what is typed over a value does not make a wrong one right.
        let common = TrainConfig::augment_args(Command::new("train"));
        let is_common = |name: &str| common.get_arguments().any(|argument| argument.get_id() == name);
        let options = table.clone().into_iter().filter(|(name, _)| is_common(name)).collect();
        overlay::<TrainConfig>(toml::Table::try_from(TrainConfig::default())?, options)
            .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    }
    drop_overruled(matches, &mut table);
    let typed = toml::Table::try_from(config)?.into_iter().filter(|(name, _)| was_typed(matches, name));
    table.extend(typed);
    let settings = TrainSettings::of_table(method.over(table)?);
    match file {
        Some(file) => settings.map_err(|error| anyhow::anyhow!("{}: {error}", file.display())),
        None => settings,
    }
}
