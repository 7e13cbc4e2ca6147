//! Options that mean something beside another one alone: given without it, they are refused by name.

use std::any::TypeId;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use clap::{Arg, ArgMatches};

use super::given::{config_file, is_named, was_typed};
use crate::train::read_table;

/// What makes an option count.
enum Need {
    /// This option is given; it is not 0, nor switched off.
    With(&'static str),
    /// This option is not given, or is switched off.
    Without(&'static str),
    /// This option has this value.
    Is(&'static str, &'static str),
}
use Need::{Is, With, Without};

/// Options of some verbs, and what each of them needs: one of these, and where there is none the verb never looks at them.
struct Rule {
    verbs: &'static [&'static str],
    options: &'static [&'static str],
    needs: &'static [Need],
}

/// The verbs that take a run's options.
pub const TRAINS: &[&str] = &["train", "plan"];
/// The verbs that draw tokens.
pub const DRAWS: &[&str] = &["sample", "eval", "generate", "chat", "process-reward"];
const GRADES: &[&str] = &["eval", "grade"];
/// Parts of a draw that a temperature of 0 leaves nothing to.
const CUTS: &[&str] = &["top_k", "top_p", "min_prob"];

const RULES: &[Rule] = &[
    Rule { verbs: TRAINS, options: &["lora_alpha", "lora_dropout", "lora_target_modules"], needs: &[With("lora_r")] },
    Rule { verbs: TRAINS, options: &["base", "base_head"], needs: &[With("lora_r"), With("adapter")] },
    Rule { verbs: TRAINS, options: &["columns"], needs: &[With("data")] },
    Rule { verbs: TRAINS, options: &["eval_steps", "eval_on_start"], needs: &[With("eval_data")] },
    Rule {
        verbs: TRAINS,
        options: &["task", "max_new_tokens", "eval_batch_size"],
        needs: &[With("eval_data"), Is("method", "ppo")],
    },
    Rule {
        verbs: TRAINS,
        options: &["weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"],
        needs: &[Is("optimizer", "adamw"), Is("optimizer", "adamw8bit")],
    },
    // As in transformers, the steps would win.
    Rule { verbs: TRAINS, options: &["num_train_epochs"], needs: &[Without("max_steps")] },
    Rule { verbs: TRAINS, options: &["warmup_ratio"], needs: &[Without("warmup_steps")] },
    Rule {
        verbs: TRAINS,
        options: &["min_lr_rate"],
        needs: &[Is("lr_scheduler_type", "linear"), Is("lr_scheduler_type", "cosine")],
    },
    Rule { verbs: &["eval"], options: &["temperature", "num_seeds"], needs: &[With("sample")] },
    Rule { verbs: &["eval"], options: CUTS, needs: &[With("sample")] },
    Rule { verbs: DRAWS, options: CUTS, needs: &[With("temperature")] },
    Rule { verbs: GRADES, options: &["flexible"], needs: &[Is("task", "gsm8k")] },
    Rule { verbs: GRADES, options: &["math_equal"], needs: &[Is("task", "math")] },
    Rule { verbs: &["generate", "chat"], options: &["batch_size"], needs: &[] },
    Rule { verbs: &["bench"], options: &["batch_size", "model"], needs: &[With("decode")] },
    Rule {
        verbs: &["bench"],
        options: &["kernel", "markdown", "rows", "decode", "compile_only"],
        needs: &[Without("step")],
    },
    Rule { verbs: &["bench"], options: &["kernel", "markdown", "rows", "compile_only"], needs: &[Without("decode")] },
    Rule { verbs: &["bench"], options: &["markdown", "rows"], needs: &[Without("compile_only")] },
    Rule { verbs: &["bench"], options: &["shape", "dtype"], needs: &[With("step"), With("decode")] },
    Rule { verbs: &["bench"], options: &["base", "base_head"], needs: &[With("decode"), With("lora_r")] },
    Rule { verbs: &["bench"], options: &["shape"], needs: &[Without("model")] },
    Rule { verbs: &["bench"], options: &["lora_r"], needs: &[With("step")] },
];

/// The options of a verb as they were given: typed, in a file, or neither.
struct Given<'a> {
    matches: &'a ArgMatches,
    arguments: Vec<Arg>,
    table: toml::Table,
    /// Where the table is from, where its user named it: what a run has recorded was looked at when it began.
    named: Option<&'a Path>,
}

/// Checks that everything that was given, on the command line or in a file, counts.
///
/// # Errors
/// Names the option that does not, and what it needs; or the file that cannot be read.
pub fn check(verb: &str, matches: &ArgMatches) -> Result<()> {
    let arguments = arguments(verb);
    check_counts(&arguments, matches)?;
    let file = config_file(matches);
    let table = file.as_deref().map(read_table).transpose()?.unwrap_or_default();
    let given = Given { matches, arguments, table, named: file.as_deref().filter(|_| is_named(matches)) };
    for rule in RULES.iter().filter(|rule| rule.verbs.contains(&verb)) {
        for option in rule.options.iter().filter(|option| !given.counts(option, rule.needs)) {
            // What is typed wins over a file, and over what hangs on it there.
            if !given.is_overruled(option, rule.needs) {
                given.refuse(verb, option, rule.needs)?;
            }
        }
    }
    Ok(())
}

/// Refuses counts and seeds that a file of options could not hold: TOML's numbers end at 2^63 - 1.
fn check_counts(arguments: &[Arg], matches: &ArgMatches) -> Result<()> {
    let is_count = |argument: &Arg| {
        let parsed = argument.get_value_parser().type_id();
        parsed == TypeId::of::<usize>() || parsed == TypeId::of::<u64>()
    };
    for argument in arguments.iter().filter(|argument| is_count(argument)) {
        let typed = matches.try_get_raw(argument.get_id().as_str()).ok().flatten().into_iter().flatten();
        for value in typed.filter_map(|value| value.to_str()?.parse::<u64>().ok()) {
            let name = argument.get_long().unwrap_or_default();
            ensure!(value <= i64::MAX as u64, "--{name} is {value}; it must be at most {}", i64::MAX);
        }
    }
    Ok(())
}

/// Takes out of the table of a training run's file what no longer counts there because of what was typed, so that the run
/// records settings that can be given again. A run that is resumed keeps what it has recorded.
pub fn drop_overruled(matches: &ArgMatches, table: &mut toml::Table) {
    if !is_named(matches) {
        return;
    }
    let given = Given { matches, arguments: arguments(TRAINS[0]), table: table.clone(), named: None };
    for rule in RULES.iter().filter(|rule| rule.verbs == TRAINS) {
        let overruled = |option: &&&str| !given.counts(option, rule.needs) && given.is_overruled(option, rule.needs);
        rule.options.iter().filter(overruled).for_each(|option| drop(table.remove(*option)));
    }
}

fn arguments(verb: &str) -> Vec<Arg> {
    let command = super::command();
    command.find_subcommand(verb).map(|verb| verb.get_arguments().cloned().collect()).unwrap_or_default()
}

impl Given<'_> {
    fn counts(&self, option: &str, needs: &[Need]) -> bool {
        let given = was_typed(self.matches, option) || self.is_in_file(option);
        !given || needs.iter().any(|need| self.holds(need))
    }

    fn is_overruled(&self, option: &str, needs: &[Need]) -> bool {
        let overrules = || needs.iter().any(|need| was_typed(self.matches, need.option()));
        !was_typed(self.matches, option) && (!is_named(self.matches) || overrules())
    }

    fn refuse(&self, verb: &str, option: &str, needs: &[Need]) -> Result<()> {
        let shown = |name: &str| format!("--{}", name.replace('_', "-"));
        let place = match self.named {
            Some(file) if !was_typed(self.matches, option) => format!("{}: `{option}`", file.display()),
            _ => shown(option),
        };
        if needs.is_empty() {
            bail!("{place} changes nothing in {verb}; leave it out");
        }
        let needs: Vec<String> = needs
            .iter()
            .map(|need| match need {
                With("temperature") => "with a --temperature above 0".to_owned(),
                With(other) => format!("with {}", shown(other)),
                Without(other) => format!("without {}", shown(other)),
                Is(other, value) => format!("with {} {value}", shown(other)),
            })
            .collect();
        bail!("{place} goes {}, and changes nothing here", needs.join(" or "))
    }

    fn holds(&self, need: &Need) -> bool {
        let value = self.value(need.option());
        let is_off = |value: &String| value == "false" || value.parse() == Ok(0.0);
        match need {
            With(_) => value.is_some_and(|value| !is_off(&value)),
            Without(_) => value.as_ref().is_none_or(is_off),
            Is(_, wanted) => value.as_deref() == Some(wanted),
        }
    }

    /// What counts: what was typed, then the file, then the default.
    fn value(&self, option: &str) -> Option<String> {
        // What is no value of any option is refused where the file is read.
        let of_file = self.table.get(option).filter(|value| !value.is_table() && !was_typed(self.matches, option));
        of_file.map(text).or_else(|| {
            let raw = self.matches.try_get_raw(option).ok().flatten()?;
            Some(raw.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","))
        })
    }

    /// Whether the file has another value than the default: a recorded configuration has every option.
    fn is_in_file(&self, option: &str) -> bool {
        let default = self.arguments.iter().find(|argument| argument.get_id() == option).map(|argument| {
            let values = argument.get_default_values().iter().map(|value| value.to_string_lossy());
            values.collect::<Vec<_>>().join(",")
        });
        let same = |value: &String| {
            let number = |text: &str| text.parse::<f64>().ok();
            // A run records the task that it would have asked by.
            let recorded = if option == "task" { "gsm8k" } else { "" };
            let default = default.as_deref().filter(|default| !default.is_empty()).unwrap_or(recorded);
            value == default || number(value).is_some_and(|value| Some(value) == number(default)) || value == "false"
        };
        self.table.get(option).map(text).is_some_and(|value| !same(&value))
    }
}

impl Need {
    fn option(&self) -> &'static str {
        match self {
            With(option) | Without(option) | Is(option, _) => option,
        }
    }
}

/// A value of a file as one types it.
fn text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
