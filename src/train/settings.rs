//! How a run's settings come together: what was typed over what a file says, over the defaults.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::config::{TrainConfig, present};
use crate::files::INPUTS;
use crate::objective::{METHODS, Method, Objective, overlay};

/// A training run as its user describes it.
pub struct TrainSettings {
    pub config: TrainConfig,
    pub objective: Box<dyn Objective>,
}

/// The key of the method in a file.
const METHOD: &str = "method";

impl TrainSettings {
    /// Of settings and a method.
    pub fn new(config: TrainConfig, objective: impl Objective + 'static) -> Self {
        Self { config, objective: Box::new(objective) }
    }

    /// Of a table with the options' names, with `_` for `-`, and the method's: a `config.toml`.
    ///
    /// # Errors
    /// Names the key that is unknown, is no option of the method, or has a value of another type.
    pub fn of_table(mut table: toml::Table) -> Result<Self> {
        let method = method_of(table.remove(METHOD))?;
        let common = TrainConfig::augment_args(Command::new("train"));
        let is_common = |name: &str| common.get_arguments().any(|argument| argument.get_id() == name);
        refuse_others(method, table.keys().filter(|name| !is_common(name)), |name| format!("`{name}`"))?;

        let (settings, options) = table.into_iter().partition(|(name, _)| is_common(name));
        let config = overlay(toml::Table::try_from(TrainConfig::default())?, settings)?;
        Ok(Self { config, objective: method.objective(options)? })
    }

    /// What [`TrainSettings::of_table`] makes the same settings of.
    ///
    /// # Errors
    /// Where a value has no form in TOML.
    pub fn to_table(config: &TrainConfig, objective: &dyn Objective) -> Result<toml::Table> {
        let mut table = toml::Table::new();
        table.insert(METHOD.to_owned(), objective.name().into());
        table.extend(toml::Table::try_from(config)?);
        table.extend(objective.options()?);
        Ok(table)
    }
}

/// Reads a file of settings, without the account of the inputs that a run keeps in it.
///
/// # Errors
/// Names the file, and the line that is not TOML.
pub fn read_table(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        anyhow::anyhow!("{}:{line}: is not TOML: {}", path.display(), error.message())
    })?;
    // What a run was made from, which another one need not be.
    table.remove(INPUTS);
    Ok(table)
}

fn method_of(name: Option<toml::Value>) -> Result<&'static Method> {
    present("--method", name.is_some())?;
    let name = name.unwrap_or_else(|| "".into());
    let method = METHODS.iter().find(|method| name.as_str() == Some(method.name));
    let Some(method) = method else {
        let known: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        bail!("`method`: there is no method {name}; there are {}", known.join(", "));
    };
    Ok(method)
}

/// Refuses options that are not the method's; `shown` is how their user has named them.
fn refuse_others<'a>(
    method: &Method,
    options: impl Iterator<Item = &'a String>,
    shown: fn(&str) -> String,
) -> Result<()> {
    let others: Vec<&String> = options.filter(|option| !method.has(option)).collect();
    if let Some(unknown) = others.iter().find(|option| METHODS.iter().all(|method| !method.has(option))) {
        bail!("unknown key {}; keys are the options' names with _ for -", shown(unknown));
    }
    match &others[..] {
        [] => Ok(()),
        [option] => {
            let theirs = METHODS.iter().filter(|method| method.has(option)).map(|method| method.name);
            let theirs = theirs.collect::<Vec<_>>().join(", ");
            bail!("{} is not an option of {}; it is one of {theirs}", shown(option), method.name)
        }
        [options @ .., last] => {
            let options: Vec<_> = options.iter().map(|option| shown(option)).collect();
            bail!("{} and {} are not options of {}", options.join(", "), shown(last), method.name)
        }
    }
}

/// The method's part of the command line: `--method`, and the options of all methods, each once.
#[derive(Clone, Debug, Default)]
pub struct MethodArgs {
    method: Option<String>,
    /// Of the methods' options those that were typed.
    typed: toml::Table,
}

impl MethodArgs {
    /// Puts what was typed over what a file says.
    ///
    /// # Errors
    /// Names the option that is not one of the method.
    pub fn over(self, mut table: toml::Table) -> Result<toml::Table> {
        if let Some(method) = self.method {
            table.insert(METHOD.to_owned(), method.into());
        }
        if !self.typed.is_empty() {
            let method = method_of(table.get(METHOD).cloned())?;
            refuse_others(method, self.typed.keys(), |name| format!("--{}", name.replace('_', "-")))?;
        }
        table.extend(self.typed);
        Ok(table)
    }
}

impl Args for MethodArgs {
    fn augment_args(command: Command) -> Command {
        let values = METHODS.iter().map(|method| PossibleValue::new(method.name).help(method.about()));
        let parser = PossibleValuesParser::new(values);
        let method = Arg::new(METHOD).long(METHOD).help("The training method").value_parser(parser);
        method_options().into_iter().fold(command.arg(method), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for MethodArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let usage = |error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{error:#}\n"));
        self.method = matches.get_one::<String>(METHOD).cloned();
        for method in METHODS {
            self.typed.extend(method.typed(matches).map_err(usage)?);
        }
        Ok(())
    }
}

/// An option of one method or more, as each of them has it.
struct Shared {
    argument: Arg,
    uses: Vec<Use>,
}

struct Use {
    method: &'static str,
    help: String,
    default: Option<String>,
}

/// Every option of any method, once, under a heading that says whose it is.
fn method_options() -> Vec<Arg> {
    let mut options: Vec<Shared> = Vec::new();
    for method in METHODS {
        for argument in method.arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let default = argument.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            let of_method = Use { method: method.name, help, default };
            match options.iter_mut().find(|option| option.argument.get_id() == argument.get_id()) {
                Some(option) => option.uses.push(of_method),
                None => options.push(Shared { argument, uses: vec![of_method] }),
            }
        }
    }
    options.into_iter().map(Shared::argument).collect()
}

impl Shared {
    /// The option without a default, which depends on the method; help and heading say what each makes of it.
    fn argument(self) -> Arg {
        let Self { argument, uses } = self;
        let names: Vec<_> = uses.iter().map(|of_method| of_method.method).collect();
        let mut help = by_method(&uses, |of_method| Some(of_method.help.clone()));
        let default = by_method(&uses, |of_method| of_method.default.clone());
        if !default.is_empty() {
            help += &format!(" [default: {default}]");
        }
        argument.default_value(None::<&str>).help(help).help_heading(format!("Options of {}", names.join(", ")))
    }
}

/// What the methods say of an option: the text alone where all agree, else each with those that say it.
fn by_method(uses: &[Use], text: impl Fn(&Use) -> Option<String>) -> String {
    let mut texts: Vec<(String, Vec<&str>)> = Vec::new();
    for of_method in uses {
        let Some(text) = text(of_method) else { continue };
        match texts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, methods)) => methods.push(of_method.method),
            None => texts.push((text, vec![of_method.method])),
        }
    }
    match &texts[..] {
        [(text, _)] => text.clone(),
        _ => texts
            .iter()
            .map(|(text, methods)| format!("{text} ({})", methods.join(", ")))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_methods_name_and_options_are_its_own_everywhere() {
        for method in METHODS {
            let objective = method.objective(toml::Table::new()).unwrap();
            assert_eq!(objective.name(), method.name);
            assert!(!method.about().is_empty());
            let table = TrainSettings::to_table(&TrainConfig::default(), &*objective).unwrap();
            let again = TrainSettings::of_table(table.clone()).unwrap();
            assert_eq!(TrainSettings::to_table(&again.config, &*again.objective).unwrap(), table);
        }
    }

    /// One definition on the command line serves all methods that have an option.
    #[test]
    fn an_option_of_several_methods_is_of_one_type() {
        for option in METHODS.iter().flat_map(Method::arguments) {
            let same = METHODS.iter().flat_map(Method::arguments).filter(|other| other.get_id() == option.get_id());
            for other in same {
                assert_eq!(option.get_value_parser().type_id(), other.get_value_parser().type_id(), "{option}");
                assert_eq!(option.get_num_args(), other.get_num_args(), "{option}");
            }
        }
    }

    #[test]
    fn no_method_takes_an_option_that_every_run_has() {
        let common = TrainConfig::augment_args(Command::new("train"));
        for option in METHODS.iter().flat_map(Method::arguments) {
            assert!(common.get_arguments().all(|argument| argument.get_id() != option.get_id()), "{option}");
        }
    }
}
