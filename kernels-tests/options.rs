//! Options: one that the chosen method does not use is refused by name, wherever it was given.

use std::path::Path;

use clap::{Args, Command as Parser};
use dqo_wgpu::objective::{METHODS, Method};
use dqo_wgpu::train::{MethodArgs, TrainConfig};

use crate::command::{dqo, error_of, stderr};

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
fn names_may_have_underscores_and_values_keep_theirs() {
    let error =
        error_of(dqo().args(["train", "--method=dqo", "--max_steps=1", "--learning_rate", "1", "--model", "a_b"]));
    assert_eq!(error, "--data is missing; give it as an option or in the file that --config names");
    let error = error_of(dqo().args(["plan", "--method", "sft", "--model=no_such_model/no_such"]));
    assert!(error.contains("no_such_model/no_such"), "{error}");
    let output = dqo().args(["train", "--no_such_option", "1"]).output().unwrap();
    assert!(output.status.code() == Some(2) && stderr(&output).contains("--no-such-option"), "{}", stderr(&output));
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
    let words: Vec<&str> = help.split_whitespace().collect();
    assert!(words.join(" ").contains("[default: 0.03 (dqo, dro, ppo); 0.1 (dpo, kto); 0.04 (grpo)]"), "{help}");
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

/// What Adam's options need.
const BY_ADAMW: &str = "with --optimizer adamw or with --optimizer adamw8bit";

#[test]
fn an_option_that_changes_nothing_is_refused_by_name_from_the_command_line_and_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("options.toml");
    let train = ["train", "--method", "dqo"];
    let cases: [(&[&str], &str, &str, &str); 19] = [
        (&["eval"], "temperature", "0.5", "with --sample"),
        (&["eval"], "top_p", "0.5", "with --sample"),
        (&["eval"], "num_seeds", "3", "with --sample"),
        (&["eval", "--task", "math"], "flexible", "true", "with --task gsm8k"),
        (&["eval"], "math_equal", "rational", "with --task math"),
        (&["sample", "--temperature", "0"], "top_k", "5", "with a --temperature above 0"),
        (&["generate", "--temperature", "0"], "min_prob", "0.5", "with a --temperature above 0"),
        (&train, "lora_alpha", "8", "with --lora-r"),
        (&train, "lora_target_modules", "q_proj", "with --lora-r"),
        (&train, "eval_steps", "5", "with --eval-data"),
        (&train, "task", "math", "with --eval-data or with --method ppo"),
        (&train, "max_new_tokens", "9", "with --eval-data or with --method ppo"),
        (&train, "eval_batch_size", "9", "with --eval-data or with --method ppo"),
        (&["train", "--method", "sft", "--optimizer", "sgd"], "weight_decay", "0.5", BY_ADAMW),
        (&["train", "--method", "sft", "--optimizer", "sgd"], "adam_beta1", "0.5", BY_ADAMW),
        (&["plan", "--method", "sft", "--optimizer", "sgd"], "adam_epsilon", "0.5", BY_ADAMW),
        (&["train", "--method", "dqo", "--max-steps", "3"], "num_train_epochs", "2", "without --max-steps"),
        (&["train", "--method", "dqo", "--warmup-steps", "3"], "warmup_ratio", "0.5", "without --warmup-steps"),
        (&train, "min_lr_rate", "0.1", "with --lr-scheduler-type linear or with --lr-scheduler-type cosine"),
    ];
    for (words, key, value, needs) in cases {
        let long = format!("--{}", key.replace('_', "-"));
        let mut command = dqo();
        command.args(words);
        if value == "true" {
            command.arg(&long)
        } else {
            command.arg(format!("{long}={value}"))
        };
        assert_eq!(error_of(&mut command), format!("{long} goes {needs}, and changes nothing here"));

        // In a file, what it hangs on stands there too: what is typed would win over both.
        let quoted = |value: &str| match value.parse::<f64>() {
            Ok(_) => value.to_owned(),
            Err(_) if value == "true" => value.to_owned(),
            Err(_) if key == "lora_target_modules" => format!("[{value:?}]"),
            Err(_) => format!("{value:?}"),
        };
        let mut text = format!("{key} = {}\n", quoted(value));
        for pair in words[1..].chunks(2) {
            let value = pair[1].parse::<f64>().map_or_else(|_| format!("{:?}", pair[1]), |_| pair[1].to_owned());
            text += &format!("{} = {value}\n", pair[0].trim_start_matches('-').replace('-', "_"));
        }
        std::fs::write(&file, text).unwrap();
        let mut command = dqo();
        command.args([words[0], "--config"]).arg(&file);
        let expected = format!("{}: `{key}` goes {needs}, and changes nothing here", file.display());
        assert_eq!(error_of(&mut command), expected);
    }
    for (words, long) in
        [(["grade", "--task", "math"], "--flexible"), (["grade", "--task", "gsm8k"], "--math-equal=rational")]
    {
        let message = error_of(dqo().args(words).args(["--data", "x", "--output", "y", long]));
        assert!(message.contains(" goes with --task "), "{message}");
    }
    let message = error_of(dqo().args(["generate", "--prompt", "x", "--batch-size", "2"]));
    assert_eq!(message, "--batch-size changes nothing in generate; leave it out");
}

/// What is typed wins over a file, and over what hangs on it there.
#[test]
fn what_is_typed_over_a_recorded_run_may_leave_some_of_it_without_use() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "method = \"sft\"\nnum_train_epochs = 3\nadam_beta1 = 0.5\n").unwrap();
    for typed in [["--max-steps", "2"], ["--optimizer", "sgd"]] {
        let message = error_of(dqo().args(["train", "--config"]).arg(&file).args(typed));
        assert!(message.starts_with("--model is missing"), "{message}");
    }
}

#[test]
fn keys_of_other_verbs_and_of_the_command_line_alone_are_unknown_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("options.toml");
    let keys =
        ["resume = true", "json = true", "file = \"x\"", "learning_rate = 0.1", "config = \"x\"", "nonsense = 1"];
    for verb in ["sample", "eval", "generate", "process-reward", "train", "plan"] {
        for key in keys {
            if key.starts_with("learning") && ["train", "plan"].contains(&verb) {
                continue;
            }
            std::fs::write(&file, format!("method = \"sft\"\n{key}\n")).unwrap();
            if !["train", "plan"].contains(&verb) {
                std::fs::write(&file, format!("{key}\n")).unwrap();
            }
            let name = key.split(' ').next().unwrap();
            let expected =
                format!("{}: unknown key `{name}`; keys are the options' names with _ for -", file.display());
            assert_eq!(error_of(dqo().args([verb, "--config"]).arg(&file)), expected, "{verb}");
        }
    }
}

#[test]
fn no_problems_and_no_epochs_are_wrong_usage() {
    let cases: [&[&str]; 6] = [
        &["sample", "--max-problems", "0"],
        &["eval", "--max-problems", "0"],
        &["demo", "--max-problems", "0"],
        &["train", "--num-train-epochs", "0"],
        &["demo", "--num-train-epochs", "0"],
        &["sample", "--num-samples", "0"],
    ];
    for words in cases {
        let output = dqo().args(words).output().unwrap();
        let text = crate::command::stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.starts_with("error: ") && text.contains(words[1]) && text.ends_with("it must be at least 1\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn a_negative_value_is_a_value() {
    for method in METHODS.iter().filter(|method| method.has("beta")) {
        let model = crate::model::golden("dqo/llama/policy");
        let mut command = dqo();
        command.args(["plan", "--device", "cpu", "--method", method.name, "--beta", "-1", "--model"]).arg(model);
        if method.name == "ppo" {
            command.args(["--task", "gsm8k"]);
        }
        assert_eq!(error_of(&mut command), "--beta is -1, which is out of its range", "{}", method.name);
    }
}
