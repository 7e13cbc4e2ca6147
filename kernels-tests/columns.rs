//! `--columns`: rows whose fields have other names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{dqo, error_of, json_of, stderr};
use crate::model::{golden, json_lines};
use crate::whole_loop::asset;

/// Rows of a data set that calls its fields otherwise, and the same rows as ours.
struct Rows {
    dir: tempfile::TempDir,
    theirs: PathBuf,
    ours: PathBuf,
}

const COLUMNS: &str = "prompt=query,completion=response,reward=score,answer=gold";

impl Rows {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows = |[prompt, completion, reward, answer]: [&str; 4]| -> String {
            let row = |index: usize| {
                let (sum, right) = (index + 4, index % 2);
                format!(
                    "{{\"id\": {index}, \"{prompt}\": \"{index}+3\", \"{completion}\": \"#### {}\", \"{reward}\": {right}, \
                     \"{answer}\": \"{sum}\"}}\n",
                    sum - 1
                )
            };
            (0..4).map(row).collect()
        };
        let (theirs, ours) = (dir.path().join("theirs.jsonl"), dir.path().join("ours.jsonl"));
        fs::write(&theirs, rows(["query", "response", "score", "gold"])).unwrap();
        fs::write(&ours, rows(["prompt", "completion", "reward", "answer"])).unwrap();
        Self { dir, theirs, ours }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

fn verb(verb: &str, data: &Path, output: &Path) -> Command {
    let mut command = dqo();
    command.arg(verb).arg("--data").arg(data).arg("--output").arg(output);
    if verb != "grade" {
        command.args(["--device", "cpu", "--model"]).arg(asset("model"));
    }
    command
}

#[test]
fn every_verb_that_reads_rows_writes_of_theirs_what_it_writes_of_ours() {
    let rows = Rows::new();
    let verbs: [(&str, &[&str]); 5] = [
        ("grade", &["--task", "gsm8k"]),
        ("logp", &[]),
        ("process-reward", &["--num-samples", "1", "--max-new-tokens", "4"]),
        ("eval", &["--max-new-tokens", "4"]),
        ("sample", &["--num-samples", "1", "--max-new-tokens", "4"]),
    ];
    for (name, options) in verbs {
        let asks = ["eval", "sample"].contains(&name);
        let columns = if asks { "prompt=query,answer=gold" } else { COLUMNS };
        let outputs = ["theirs", "ours"].map(|of| rows.path(&format!("{name}-{of}.jsonl")));
        done(verb(name, &rows.theirs, &outputs[0]).args(options).args(["--columns", columns]));
        done(verb(name, &rows.ours, &outputs[1]).args(options));
        let [theirs, ours] = outputs.map(|output| fs::read_to_string(output).unwrap());
        assert_eq!(theirs, ours, "{name}");
    }
    // Its value network has no tokenizer of its own: rows of ids.
    let ids = fs::read_to_string(golden("ppo/round.jsonl")).unwrap();
    let theirs = rows.path("ids.jsonl");
    fs::write(&theirs, ids.replace("\"prompt_ids\"", "\"input_tokens\"")).unwrap();
    let value = crate::command::copy_of("ppo/value", &rows.path("value"));
    fs::copy(golden("ppo/policy").join("tokenizer.json"), value.join("tokenizer.json")).unwrap();
    let values = |data: &Path, output: &Path| {
        let mut command = dqo();
        command.args(["values", "--device", "cpu", "--value"]).arg(&value);
        command.arg("--data").arg(data).arg("--output").arg(output);
        command
    };
    let outputs = ["theirs", "ours"].map(|of| rows.path(&format!("values-{of}.jsonl")));
    done(values(&theirs, &outputs[0]).args(["--columns", "prompt_ids=input_tokens"]));
    done(&mut values(&golden("ppo/round.jsonl"), &outputs[1]));
    assert_eq!(json_lines(&outputs[0]), json_lines(&outputs[1]));
}

#[test]
fn a_run_records_its_columns_and_a_file_repeats_them() {
    let rows = Rows::new();
    let train = |output: &Path| {
        let mut command = dqo();
        command.args(["train", "--device", "cpu"]).arg("--output-dir").arg(output);
        command
    };
    let result = |output: &Path| fs::read(output.join("final/policy/model.safetensors")).unwrap();
    let [first, again, ours] = ["first", "again", "ours-run"].map(|name| rows.path(name));
    let options = ["--method", "dqo", "--max-steps", "2", "--batch-size", "2", "--learning-rate", "1e-3", "--model"];
    let begin = |output: &Path, data: &Path, columns: &[&str]| {
        let mut command = train(output);
        command.args(options).arg(asset("model")).arg("--data").arg(data).args(columns);
        command
    };
    done(&mut begin(&first, &rows.theirs, &["--columns", COLUMNS]));
    done(&mut begin(&ours, &rows.ours, &[]));
    assert!(result(&first) == result(&ours));
    let config = first.join("config.toml");
    assert!(fs::read_to_string(&config).unwrap().contains(&format!("columns = \"{COLUMNS}\"\n")));
    assert!(!fs::read_to_string(ours.join("config.toml")).unwrap().contains("columns"));
    done(train(&again).arg("--config").arg(&config));
    assert!(result(&first) == result(&again));

    let message = error_of(
        begin(&first, &rows.theirs, &["--columns", "prompt=query,completion=response,reward=id"]).arg("--resume"),
    );
    assert!(
        message.starts_with("--resume: --columns is ") && message.ends_with("the run goes on as it began"),
        "{message}"
    );
    let mut plan = dqo();
    plan.args(["plan", "--device", "cpu", "--json", "--method", "sft", "--model"]).arg(asset("model"));
    let planned = json_of(plan.arg("--data").arg(&rows.theirs).args(["--columns", "prompt=query,completion=response"]));
    assert_eq!(planned["rows"], 4);
}

#[test]
fn columns_that_are_wrong_are_refused_by_name() {
    let rows = Rows::new();
    let data = rows.theirs.display();
    let grade = |columns: &str| {
        let mut command = verb("grade", &rows.theirs, &rows.path("out.jsonl"));
        command.args(["--task", "gsm8k", "--columns", columns]);
        command
    };
    let message = error_of(&mut grade("promt=query"));
    let known = "--columns: `promt` is no field that is read here; there are prompt, completion, response, messages, ";
    assert!(message.starts_with(known), "{message}");
    assert_eq!(
        error_of(&mut grade("completion=response,answer=golden")),
        format!(
            "{data}: no row has a column `golden` (--columns answer=golden); the first row has id, query, response, score, \
             gold"
        )
    );
    assert!(!rows.path("out.jsonl").exists());
    let message =
        error_of(verb("eval", &rows.theirs, &rows.path("out.jsonl")).args(["--columns", "completion=response"]));
    let known = "question, problem, prompt, answer, solution, level, type";
    assert_eq!(message, format!("--columns: `completion` is no field that is read here; there are {known}"));
    for (columns, part) in [
        ("completion=a,completion=b", "`completion` stands twice"),
        ("completion=a,answer=a", "the column `a` stands twice"),
        ("completion", "`completion` is not OURS=THEIRS"),
    ] {
        let output = grade(columns).output().unwrap();
        let text = stderr(&output);
        assert!(output.status.code() == Some(2) && text.contains(part) && text.lines().count() == 1, "{text}");
        let file = rows.path("options.toml");
        fs::write(&file, format!("columns = \"{columns}\"\n")).unwrap();
        let message = error_of(dqo().args(["grade", "--config"]).arg(&file));
        assert!(message.contains("`columns`: ") && message.contains(part), "{message}");
    }
    let message = error_of(dqo().args(["plan", "--method", "sft", "--columns", "prompt=query"]));
    assert_eq!(message, "--columns goes with --data, and changes nothing here");
}
