//! Every option of every verb, as clap itself lists them, with values that nobody should give: the command ends soon, with one
//! line that says what is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use clap::{Arg, Command as Parser};
use dqo_wgpu::objective::METHODS;
use rayon::prelude::*;

use crate::command::{copy_of, dqo, stderr, verbs};
use crate::model::golden;

/// Values of no use: nothing, negative, as large as integers and floats are, no number, of another type.
const VALUES: [&str; 8] = ["0", "-1", "9223372036854775807", "18446744073709551615", "1e308", "NaN", "word", ""];

/// The longest that any of these may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What each verb is run on, in a directory of its own.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let demo = Self::demo();
        let problems = std::fs::read_to_string(demo.join("train.jsonl")).unwrap();
        let few: String = problems.lines().take(2).map(|line| format!("{line}\n")).collect();
        std::fs::write(dir.path().join("problems.jsonl"), few).unwrap();
        let row = r#"{"prompt": [{"role": "user", "content": "3+4"}], "completion": "8\n\n#### 8", "reward": 0, "answer": "7"}"#;
        let right = r#"{"prompt": [{"role": "user", "content": "3+4"}], "completion": "7\n\n#### 7", "reward": 1, "answer": "7"}"#;
        let other = r#"{"prompt": [{"role": "user", "content": "5+1"}], "completion": "7\n\n#### 7", "reward": 0, "answer": "6"}"#;
        std::fs::write(dir.path().join("rows.jsonl"), format!("{row}\n{right}\n{other}\n")).unwrap();
        // A value network, and a tokenizer to show its tokens by.
        let value = copy_of("ppo/value", &dir.path().join("value"));
        std::fs::copy(golden("ppo/policy").join("tokenizer.json"), value.join("tokenizer.json")).unwrap();
        std::fs::write(dir.path().join("config.toml"), "method = \"sft\"\n").unwrap();
        std::fs::write(dir.path().join("metrics.jsonl"), "{\"step\": 1, \"loss\": 0.5}\n").unwrap();
        Self { dir }
    }

    fn demo() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The options that a verb needs, to do little; `number` makes the output a new one.
    fn options(&self, verb: &str, method: &str, number: usize) -> Vec<(String, String)> {
        let model = Self::demo().join("model").display().to_string();
        let (rows, problems) = (self.path("rows.jsonl"), self.path("problems.jsonl"));
        let output = self.path(&format!("out-{number}"));
        let (jsonl, gguf) = (format!("{output}.jsonl"), format!("{output}.gguf"));
        let value = self.path("value");
        let [ids, base, adapter] =
            ["ppo/round.jsonl", "lora/llama/model", "lora/llama/policy"].map(|path| golden(path).display().to_string());
        let options: Vec<(&str, &str)> = match verb {
            "devices" | "completions" => vec![],
            "man" => vec![("output-dir", &output)],
            "demo" => vec![("max-problems", "1"), ("num-train-epochs", "1"), ("output-dir", &output)],
            "report" => vec![("output", &output)],
            "bench" => vec![("kernel", "scale")],
            "merge" => vec![("model", &base), ("adapter", &adapter), ("output", &output)],
            "export" => vec![("model", &base), ("output", &gguf)],
            "grade" => vec![("task", "gsm8k"), ("data", &rows), ("output", &output)],
            "logp" => vec![("model", &model), ("data", &rows), ("output", &output)],
            "values" => vec![("value", &value), ("data", &ids), ("output", &jsonl)],
            "generate" => vec![("model", &model), ("prompt", "3+4"), ("max-new-tokens", "2")],
            "chat" => vec![("model", &model), ("max-new-tokens", "2")],
            "sample" => vec![
                ("model", &model),
                ("task", "gsm8k"),
                ("data", &problems),
                ("num-samples", "1"),
                ("max-new-tokens", "2"),
                ("output", &output),
            ],
            "process-reward" => {
                vec![
                    ("model", &model),
                    ("data", &rows),
                    ("num-samples", "1"),
                    ("max-new-tokens", "2"),
                    ("output", &output),
                ]
            }
            "eval" => vec![("model", &model), ("data", &problems), ("max-new-tokens", "2")],
            "train" | "plan" => {
                let mut options = vec![("method", method), ("model", &model[..]), ("batch-size", "2")];
                options.push(("data", if method == "ppo" { &problems } else { &rows }));
                options.push(("output-dir", &output));
                if method == "ppo" {
                    options.extend([("task", "gsm8k"), ("max-new-tokens", "2"), ("max-steps", "1")]);
                }
                options
            }
            other => panic!("{other} is a new verb: say what it needs"),
        };
        options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The verb with what it needs, but for `option`.
    fn command(&self, verb: &Parser, option: &str, method: &str, number: usize) -> Command {
        let mut command = dqo();
        command.arg(verb.get_name()).current_dir(self.dir.path());
        let has = |name: &str| verb.get_arguments().any(|argument| argument.get_long() == Some(name));
        if has("device") && option != "device" {
            command.args(["--device", "cpu"]);
        }
        for (name, value) in self.options(verb.get_name(), method, number) {
            if name != option {
                command.arg(format!("--{name}={value}"));
            }
        }
        if verb.get_name() == "report" {
            command.arg(self.dir.path());
        }
        command
    }

    /// The file of options of a case.
    fn file_of(&self, number: usize) -> String {
        self.path(&format!("given-{number}.toml"))
    }

    /// The verb with what it needs, and `option` with this value from a file: its error, as [`line_of`].
    fn line_with_file(
        &self,
        verb: &Parser,
        option: &Arg,
        number: usize,
        value: &str,
    ) -> Result<Option<String>, String> {
        let file = self.file_of(number);
        std::fs::write(&file, format!("{} = {value}\n", option.get_id())).unwrap();
        let long = option.get_long().unwrap_or_default();
        line_of(self.command(verb, long, method_of(option), number).args(["--config", &file]))
    }
}

/// The options of a verb that take a value, by their long name.
fn valued(verb: &Parser) -> Vec<Arg> {
    verb.get_arguments()
        .filter(|option| option.get_action().takes_values() && option.get_long().is_some())
        .cloned()
        .collect()
}

/// A method that has the option; for those of every method, the first.
fn method_of(option: &Arg) -> &'static str {
    METHODS.iter().find(|method| method.has(option.get_id().as_str())).map_or(METHODS[0].name, |method| method.name)
}

fn output_of(command: &mut Command) -> Result<Output, String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err(format!("not done within {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child.wait_with_output().unwrap())
}

/// What a command ends with, as [`error_line`].
fn line_of(command: &mut Command) -> Result<Option<String>, String> {
    output_of(command).and_then(|output| error_line(&output))
}

/// The error in a line, `None` where all went well.
fn error_line(output: &Output) -> Result<Option<String>, String> {
    let text = stderr(output);
    match output.status.code() {
        Some(0) => Ok(None),
        Some(1 | 2) => match text.lines().position(|line| line.starts_with("error: ")) {
            Some(at) if at + 1 == text.lines().count() => Ok(text.lines().last().map(str::to_owned)),
            _ => Err(format!("not one line at the end: {text}")),
        },
        other => Err(format!("ended with {other:?}: {text}")),
    }
}

#[test]
fn every_option_with_every_kind_of_bad_value_ends_in_a_line() {
    let ground = Ground::new();
    let cases: Vec<(Parser, Arg, &str)> = verbs()
        .into_iter()
        .flat_map(|verb| valued(&verb).into_iter().map(move |option| (verb.clone(), option)))
        .flat_map(|(verb, option)| VALUES.map(|value| (verb.clone(), option.clone(), value)))
        .collect();
    assert!(cases.len() > 1000, "only {}", cases.len());
    let wrong: Vec<String> = cases
        .par_iter()
        .enumerate()
        .filter_map(|(number, (verb, option, value))| {
            let long = option.get_long().unwrap();
            let mut command = ground.command(verb, long, method_of(option), number);
            command.arg(format!("--{long}={value}"));
            let checked = line_of(&mut command).and_then(|line| match line {
                // A file is named by its path; what comes of a factor that is too large is told where it comes.
                Some(line)
                    if [long, value, "is not finite"].iter().any(|&part| !part.is_empty() && line.contains(part)) =>
                {
                    Ok(())
                }
                Some(line) => Err(format!("does not say which option: {line}")),
                None => Ok(()),
            });
            checked.err().map(|error| format!("{} --{long}={value}: {error}", verb.get_name()))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The verbs that take options from a file.
fn configurable() -> Vec<Parser> {
    let takes_file = |verb: &Parser| verb.get_arguments().any(|option| option.get_long() == Some("config"));
    verbs().into_iter().filter(takes_file).collect()
}

#[test]
fn a_wrong_value_in_a_file_is_refused_by_file_and_key() {
    let ground = Ground::new();
    let cases: Vec<(Parser, Arg)> = configurable()
        .into_iter()
        .flat_map(|verb| {
            let options: Vec<Arg> =
                verb.get_arguments().filter(|option| option.get_long() != Some("help")).cloned().collect();
            options.into_iter().map(move |option| (verb.clone(), option))
        })
        .collect();
    let wrong: Vec<String> = cases
        .par_iter()
        .enumerate()
        .filter_map(|(number, (verb, option))| {
            let key = option.get_id().as_str();
            let file = ground.file_of(number);
            let names_both = |line: &String| line.contains(&file) && line.contains(&format!("`{key}`"));
            // `--config` and `--json` are of the command line alone: their keys are unknown, whatever they are.
            match ground.line_with_file(verb, option, number, "{ x = 1 }") {
                Ok(Some(line)) if names_both(&line) => None,
                other => Some(format!("{} {key}: {other:?}", verb.get_name())),
            }
        })
        .collect();
    assert!(wrong.is_empty() && cases.len() > 150, "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_number_that_is_none_of_an_option_is_refused_in_a_file_too() {
    let ground = Ground::new();
    let numbers = ["0", "-1", "9223372036854775807", "1e308", "nan"];
    let cases: Vec<(Parser, Arg, &str)> = configurable()
        .into_iter()
        .flat_map(|verb| valued(&verb).into_iter().map(move |option| (verb.clone(), option)))
        .filter(|(_, option)| option.get_long() != Some("config"))
        .flat_map(|(verb, option)| numbers.map(|number| (verb.clone(), option.clone(), number)))
        .collect();
    let wrong: Vec<String> = cases
        .par_iter()
        .enumerate()
        .filter_map(|(number, (verb, option, value))| {
            let (key, long) = (option.get_id().as_str(), option.get_long().unwrap());
            let named = [key, long, "is not finite"];
            match ground.line_with_file(verb, option, number, value) {
                Ok(None) => None,
                Ok(Some(line)) if named.iter().any(|part| line.contains(part)) => None,
                other => Some(format!("{} {key} = {value}: {other:?}", verb.get_name())),
            }
        })
        .collect();
    assert!(wrong.is_empty() && cases.len() > 600, "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_verb_takes_its_options_from_a_file() {
    let ground = Ground::new();
    for (number, verb) in configurable().iter().enumerate() {
        let mut table = toml::Table::new();
        for (name, value) in ground.options(verb.get_name(), "sft", number) {
            let value = value.parse().map_or(toml::Value::String(value), toml::Value::Integer);
            table.insert(name.replace('-', "_"), value);
        }
        if verb.get_arguments().any(|option| option.get_long() == Some("device")) {
            table.insert("device".to_owned(), "cpu".into());
        }
        let file = ground.path("whole.toml");
        std::fs::write(&file, toml::to_string(&table).unwrap()).unwrap();
        let mut command = dqo();
        command.arg(verb.get_name()).current_dir(ground.dir.path()).args(["--config", &file]);
        let output = output_of(&mut command);
        assert!(matches!(&output, Ok(output) if output.status.success()), "{}: {output:?}", verb.get_name());

        if let Some(output) = table.get("output") {
            // The file is no place for the result.
            let mut command = dqo();
            command.arg(verb.get_name()).current_dir(ground.dir.path()).args(["--config", &file, "--output", &file]);
            let line = line_of(&mut command);
            assert!(
                matches!(&line, Ok(Some(line)) if line.contains("overwritten")),
                "{} {output}: {line:?}",
                verb.get_name()
            );
        }
    }
}

/// What an option's help begins with where it hangs on another one.
fn hangs_on_another(option: &Arg) -> bool {
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    ["With --", "MATH:"].iter().any(|start| help.starts_with(start))
}

#[test]
fn an_option_that_hangs_on_an_absent_one_is_refused_by_name() {
    let ground = Ground::new();
    let mut found = 0;
    for verb in verbs() {
        for option in verb.get_arguments().filter(|option| hangs_on_another(option)) {
            let long = option.get_long().unwrap();
            let value = option.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            let possible = option.get_possible_values().first().map(|value| value.get_name().to_owned());
            let value = value.or(possible).unwrap_or_else(|| "1".to_owned());
            let mut command = ground.command(&verb, long, METHODS[0].name, found);
            command.arg(if option.get_action().takes_values() {
                format!("--{long}={value}")
            } else {
                format!("--{long}")
            });
            let line = line_of(&mut command);
            let is_named = matches!(&line, Ok(Some(line)) if line.contains(&format!("--{long}")));
            assert!(is_named, "{} --{long}={value}: {line:?}", verb.get_name());
            found += 1;
        }
    }
    assert!(found > 15, "only {found}");
}
