//! What the command says of itself: short help that fits a screen, options under headings, examples that can be typed.

use crate::command::{dqo, stderr, verbs};

/// What `dqo-wgpu VERB OPTION` prints.
fn help(verb: &str, option: &str) -> String {
    let output = dqo().args([verb, option]).env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn short_help_fits_a_screen() {
    for verb in verbs() {
        let text = help(verb.get_name(), "-h");
        assert!(text.lines().count() <= 60, "{}: {} lines", verb.get_name(), text.lines().count());
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

#[test]
fn verbs_of_many_options_have_them_under_headings() {
    for verb in verbs() {
        let name = verb.get_name();
        if !["train", "plan", "sample", "eval", "generate", "chat", "process-reward"].contains(&name) {
            continue;
        }
        let bare = verb.get_arguments().filter(|argument| argument.get_help_heading().is_none());
        let bare: Vec<_> = bare.map(|argument| argument.get_id().to_string()).collect();
        let general = ["file", "json", "quiet", "ranks", "buffers", "help"];
        assert!(bare.iter().all(|id| general.contains(&id.as_str())), "{name}: {bare:?} stand under no heading");
    }
}

#[test]
fn every_verb_has_examples_and_they_parse() {
    for verb in verbs() {
        let text = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  dqo-wgpu ")).collect();
        assert!(!examples.is_empty(), "{} has no example", verb.get_name());
        for example in examples {
            let typed = example.split(" > ").next().unwrap_or_default();
            // A quoted text is one word.
            let words = typed.split('"').enumerate().flat_map(|(number, part)| match number % 2 {
                1 => vec![part],
                _ => part.split_whitespace().collect(),
            });
            let parsed = dqo_wgpu::cli::command().try_get_matches_from(std::iter::once("dqo-wgpu").chain(words));
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
    }
}

/// What one asks for with --quiet: the result on stdout, and on stderr only what is wrong.
#[test]
fn quiet_leaves_errors_and_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let row = |reward| format!("{{\"prompt\": \"1+3\", \"completion\": \"7 7\", \"reward\": {reward}}}\n");
    let run = |name: &str, rows: String, quiet: bool| {
        let data = dir.path().join(format!("{name}.jsonl"));
        std::fs::write(&data, rows).unwrap();
        let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
        let mut command = dqo();
        command.args(["train", "--method", "dqo", "--device", "cpu", "--max-steps", "2", "--model"]).arg(model);
        command.arg("--data").arg(data).arg("--output-dir").arg(dir.path().join(name));
        let output = command.args(quiet.then_some("--quiet")).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output))
    };
    let (result, said) = run("two", row(0) + &row(1), true);
    assert!(result.trim_end().ends_with("final"), "{result}");
    assert_eq!(said, "");
    // All rewards alike is worth a warning.
    let (_, loud) = run("loud", row(1) + &row(1), false);
    let (_, said) = run("alike", row(1) + &row(1), true);
    let loud = loud.replace("loud.jsonl", "alike.jsonl");
    let warnings: Vec<&str> = loud.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert!(!warnings.is_empty(), "{loud}");
    assert_eq!(said.lines().collect::<Vec<_>>(), warnings);
}
