//! Options: one that the chosen method does not use is refused by name, wherever it was given.

use std::path::Path;

use clap::{Args, Command as Parser};
use dqo_wgpu::objective::{METHODS, Method};
use dqo_wgpu::train::{MethodArgs, TrainConfig};

use crate::command::{dqo, error_of};

/// An option of some method, as a user gives it.
struct MethodOption {
    /// As a file names it.
    key: String,
    long: String,
    /// A value that its type takes.
    value: String,
}

/// Every option of any method, once.
fn options() -> Vec<MethodOption> {
    let command = MethodArgs::augment_args(Parser::new("methods"));
    let of_methods = command.get_arguments().filter(|argument| argument.get_id() != "method");
    let option = |argument: &clap::Arg| {
        let key = argument.get_id().to_string();
        let default = METHODS
            .iter()
            .flat_map(Method::arguments)
            .filter(|of_method| of_method.get_id() == argument.get_id())
            .find_map(|of_method| {
                of_method.get_default_values().first().map(|value| value.to_str().unwrap().to_owned())
            });
        let possible = argument.get_possible_values().first().map(|value| value.get_name().to_owned());
        let value = default.or(possible).unwrap_or_else(|| "1".to_owned());
        MethodOption { key, long: argument.get_long().unwrap().to_owned(), value }
    };
    of_methods.map(option).collect()
}

/// Who has an option, as messages name them.
fn owners(option: &MethodOption) -> String {
    let owners: Vec<_> = METHODS.iter().filter(|method| method.has(&option.key)).map(|method| method.name).collect();
    owners.join(", ")
}

#[test]
fn an_option_of_another_method_is_refused_by_name_from_the_command_line_and_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for method in METHODS {
        for option in options().iter().filter(|option| !method.has(&option.key)) {
            let MethodOption { key, long, value } = option;
            let expected = format!("is not an option of {}; it is one of {}", method.name, owners(option));
            let mut command = dqo();
            command.args(["train", "--method", method.name, &format!("--{long}={value}")]);
            assert_eq!(error_of(&mut command), format!("--{long} {expected}"));

            let file = dir.path().join(format!("{}-{key}.toml", method.name));
            let quoted =
                if value.parse::<f64>().is_ok() || value == "true" { value.clone() } else { format!("{value:?}") };
            std::fs::write(&file, format!("method = \"{}\"\n{key} = {quoted}\n", method.name)).unwrap();
            let mut command = dqo();
            command.args(["train", "--config"]).arg(&file);
            assert_eq!(error_of(&mut command), format!("{}: `{key}` {expected}", file.display()));
            refused += 1;
        }
    }
    assert!(refused > 40, "only {refused} pairs of a method and an option of another");
}

#[test]
fn several_are_named_together() {
    let mut command = dqo();
    command.args(["train", "--method", "sft", "--lambda", "0.9", "--beta", "1", "--ref-model", "x"]);
    let message = error_of(&mut command);
    assert!(message.ends_with(" are not options of sft"), "{message}");
    assert!(["--lambda", "--beta", "--ref-model"].iter().all(|option| message.contains(option)), "{message}");
}

#[test]
fn a_methods_own_options_are_taken() {
    for method in METHODS {
        let mut command = dqo();
        command.args(["train", "--method", method.name]);
        for option in options().iter().filter(|option| method.has(&option.key)) {
            command.arg(format!("--{}={}", option.long, option.value));
        }
        // What every run needs is still missing, and that is all.
        assert!(error_of(&mut command).starts_with("--model is missing"), "{}", method.name);
    }
}

#[test]
fn the_help_says_whose_an_option_is_and_each_default() {
    let output = dqo().args(["train", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for option in options() {
        assert!(help.contains(&format!("Options of {}:", owners(&option))), "{}", option.key);
    }
    assert!(help.contains("[default: 0.03 (dqo, dro, ppo); 0.1 (dpo, kto)]"), "{help}");
}

#[test]
fn an_unknown_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.toml");
    for (verb, rest) in [("train", "method = \"dqo\"\n"), ("sample", ""), ("eval", ""), ("generate", "")] {
        std::fs::write(&file, format!("{rest}learn_rate = 1.0\n")).unwrap();
        let mut command = dqo();
        command.args([verb, "--config"]).arg(&file);
        let expected =
            format!("{}: unknown key `learn_rate`; keys are the options' names with _ for -", file.display());
        assert_eq!(error_of(&mut command), expected, "{verb}");
    }
    let keys = TrainConfig::augment_args(Parser::new("train"));
    assert!(keys.get_arguments().all(|argument| argument.get_id() != "learn_rate"));
}

/// Runs an example of the library as its reader would.
fn run_example(name: &str, args: &[&Path]) -> String {
    let examples = Path::new(env!("CARGO_BIN_EXE_dqo-wgpu")).with_file_name("examples");
    let output = std::process::Command::new(examples.join(name)).args(args).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_objective_of_ones_own_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let result = run_example("own_objective", &[dir.path()]);
    assert!(Path::new(result.trim()).join("policy/model.safetensors").exists(), "{result}");
    let metrics = crate::model::json_lines(&dir.path().join("run/metrics.jsonl"));
    let loss = |row: usize| metrics[row]["loss"].as_f64().unwrap();
    assert!(metrics.len() == 16 && loss(15) < loss(0), "{} to {}", loss(0), loss(15));
    let source = include_str!("../examples/own_objective/main.rs");
    assert!(source.lines().count() < 100, "an objective takes {} lines", source.lines().count());
}
