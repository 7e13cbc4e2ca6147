//! What `--method` knows of a method: its options on the command line and in files, and the objective that they make.

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::seam::Objective;

/// A method's options, which are its objective: as the command line, a file, and Rust code name them.
pub trait MethodOptions: Objective + Args + Serialize + DeserializeOwned + 'static {
    /// The metrics that are the method's own; what several methods report alike is described by each.
    const METRICS: &'static [About];
}

/// What a metric is, in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// As `metrics.jsonl` has it.
    pub metric: &'static str,
    pub is: &'static str,
}

/// A method of the list.
pub struct Method {
    pub name: &'static str,
    pub metrics: &'static [About],
    augment: fn(Command) -> Command,
    given: fn(&ArgMatches) -> Result<toml::Table>,
    objective: fn(toml::Table) -> Result<Box<dyn Objective>>,
}

impl Method {
    /// The method with these options, by this name.
    pub const fn of<M: MethodOptions>(name: &'static str) -> Self {
        Self { name, metrics: M::METRICS, augment: M::augment_args, given: given::<M>, objective: objective::<M> }
    }

    /// What it is, in a line.
    pub fn about(&self) -> String {
        self.command().get_about().map(ToString::to_string).unwrap_or_default()
    }

    /// Its options, with their defaults, as the command line has them.
    pub fn arguments(&self) -> Vec<Arg> {
        self.command().get_arguments().cloned().collect()
    }

    /// Whether this is one of its options, by the name that a file has for it.
    pub fn has(&self, option: &str) -> bool {
        self.command().get_arguments().any(|argument| argument.get_id() == option)
    }

    /// Of its options those that were typed, with their values; `matches` may know other options too.
    ///
    /// # Errors
    /// Where a value cannot be written as TOML.
    pub fn typed(&self, matches: &ArgMatches) -> Result<toml::Table> {
        (self.given)(matches)
    }

    /// The objective with these options, and defaults for the others.
    ///
    /// # Errors
    /// Names the option whose value is of another type.
    pub fn objective(&self, options: toml::Table) -> Result<Box<dyn Objective>> {
        (self.objective)(options)
    }

    fn command(&self) -> Command {
        (self.augment)(Command::new(self.name))
    }
}

/// Options as an empty command line makes them.
///
/// # Panics
/// Where one has no default.
pub fn defaults<M: Args>() -> M {
    let matches = M::augment_args(Command::new("defaults")).get_matches_from(["defaults"]);
    M::from_arg_matches(&matches).expect("every option of a method has a default")
}

fn given<M: MethodOptions>(matches: &ArgMatches) -> Result<toml::Table> {
    let was_typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let command = M::augment_args(Command::new("typed").no_binary_name(true));
    let mut words = Vec::new();
    for argument in command.get_arguments().filter(|argument| was_typed(argument.get_id().as_str())) {
        let raw = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
        let long = argument.get_long().unwrap_or_default();
        words.extend(raw.map(|value| format!("--{long}={}", value.to_string_lossy())));
    }
    let typed = M::from_arg_matches(&command.try_get_matches_from(words)?)?;
    let mut table = toml::Table::try_from(typed)?;
    table.retain(|name, _| was_typed(name));
    Ok(table)
}

fn objective<M: MethodOptions>(options: toml::Table) -> Result<Box<dyn Objective>> {
    let options: M = overlay(toml::Table::try_from(defaults::<M>())?, options)?;
    Ok(Box::new(options))
}

/// Settings over others, as what they are the settings of.
///
/// # Errors
/// Names the key whose value is wrong.
pub fn overlay<T: DeserializeOwned>(under: toml::Table, over: toml::Table) -> Result<T> {
    let read = |over: toml::Table| {
        let mut table = under.clone();
        table.extend(over);
        table.try_into::<T>().map_err(|error| error.message().to_owned())
    };
    read(over.clone()).map_err(|message| {
        // The error does not say which key it was: it is the one that is wrong alone.
        let alone = |(name, value): (String, toml::Value)| {
            let message = read(toml::Table::from_iter([(name.clone(), value)])).err()?;
            Some(anyhow::anyhow!("`{name}`: {message}"))
        };
        over.into_iter().find_map(alone).unwrap_or_else(|| anyhow::anyhow!(message))
    })
}
