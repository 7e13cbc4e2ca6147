//! Rows in Parquet files, as pyarrow writes them: what is read of them is what is read of the same rows as JSON lines. The files
//! are made by tools/goldens/parquet.py.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{dqo, error_of};
use crate::model::golden;

fn file(name: &str) -> PathBuf {
    golden("parquet").join(name)
}

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model")
}

/// The error of reading a file's rows.
fn error(data: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = dqo();
    command.args(["logp", "--device", "cpu", "--model"]).arg(demo_model()).arg("--data").arg(data);
    error_of(command.arg("--output").arg(dir.path().join("out.jsonl"))).replace(&data.display().to_string(), "FILE")
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_build_without_it_says_so() {
    let expected = "FILE: is a Parquet file, and this build reads none; build it with --features parquet, or make JSON lines of \
                    the file";
    assert_eq!(error(&file("rollouts.parquet")), expected);
}

#[test]
fn a_file_that_is_only_named_so_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.parquet");
    fs::copy(file("rollouts.jsonl"), &rows).unwrap();
    assert_eq!(error(&rows), "FILE: is not a Parquet file, as its name says: it does not begin with PAR1");
}

#[cfg(feature = "parquet")]
mod read {
    use std::process::{Command, Stdio};

    use dqo_wgpu::data::{Columns, ProblemFile, RowFile};
    use dqo_wgpu::grade::Task;

    use super::*;
    use crate::command::stderr;

    fn done(command: &mut Command) -> Vec<u8> {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        output.stdout
    }

    #[test]
    fn rows_are_those_of_json_lines() {
        for name in ["rollouts", "rollouts_v2", "messages", "pairs"] {
            let read = |ending: &str| RowFile::read(&file(&format!("{name}.{ending}"))).unwrap();
            let (parquet, lines) = (read("parquet"), read("jsonl"));
            assert!(!lines.rows.is_empty() && parquet.paired == lines.paired);
            assert_eq!(parquet.rows, lines.rows, "{name}");
        }
        let read = |ending: &str| {
            let path = file(&format!("problems.{ending}"));
            ProblemFile::read(&path, &Columns::default(), Task::Gsm8k).unwrap().problems
        };
        assert_eq!(read("parquet"), read("jsonl"));
    }

    /// Every field, also those that mean nothing here, in its order; and by way of standard input.
    #[test]
    fn what_is_written_of_rows_is_what_is_written_of_json_lines() {
        let grade = |data: &str| {
            let mut command = dqo();
            command.args([
                "grade",
                "--task",
                "gsm8k",
                "--columns",
                "completion=completion",
                "--output",
                "-",
                "--data",
                data,
            ]);
            command
        };
        let path = |name: &str| file(name).display().to_string();
        let expected = done(&mut grade(&path("rollouts.jsonl")));
        assert!(expected.starts_with(b"{\"prompt\":[{"));
        for name in ["rollouts.parquet", "rollouts_v2.parquet"] {
            assert!(done(&mut grade(&path(name))) == expected, "{name}");
            let piped = fs::File::open(file(name)).unwrap();
            assert!(done(grade("-").stdin(Stdio::from(piped))) == expected, "{name}");
        }
    }

    #[test]
    fn a_run_on_parquet_is_the_run_on_json_lines() {
        let dir = tempfile::tempdir().unwrap();
        let result = |name: &str| {
            let (data, output) = (dir.path().join(name), dir.path().join(format!("{name}.run")));
            fs::copy(file(name), &data).unwrap();
            let mut command = dqo();
            command.args(["train", "--method", "kto", "--device", "cpu", "--max-steps", "2", "--batch-size", "2"]);
            command.args(["--learning-rate", "1e-3", "--model"]).arg(demo_model()).arg("--data").arg(&data);
            done(command.arg("--output-dir").arg(&output));
            fs::read(output.join("final/policy/model.safetensors")).unwrap()
        };
        assert!(result("messages.parquet") == result("messages.jsonl"));
    }

    #[test]
    fn errors_name_the_file_and_the_row() {
        assert_eq!(error(&file("nan.parquet")), "FILE:2: field `reward`: is not a finite number");
        assert_eq!(
            error(&file("zstd.parquet")),
            "FILE:1: cannot be read: is compressed with zstd, which is not read; write it with snappy or with none"
        );
        assert_eq!(
            error(&file("time.parquet")),
            "FILE:1: field `completion`: is missing (or `completion_ids`, `response`, `messages`)"
        );
        let dir = tempfile::tempdir().unwrap();
        let cut = dir.path().join("cut");
        let bytes = fs::read(file("rollouts.parquet")).unwrap();
        fs::write(&cut, &bytes[..bytes.len() - 9]).unwrap();
        let message = error(&cut);
        assert!(message.starts_with("FILE: is not a Parquet file that can be read: "), "{message}");
    }

    /// Damage at every place ends as an error or as other rows, and in no panic.
    #[test]
    fn a_damaged_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let damaged = dir.path().join("damaged.parquet");
        let bytes = fs::read(file("messages.parquet")).unwrap();
        let mut errors = 0;
        for place in 4..bytes.len() {
            for damage in [0x01, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[place] ^= damage;
                fs::write(&damaged, bytes).unwrap();
                errors += usize::from(RowFile::read(&damaged).is_err());
            }
        }
        assert!(errors > bytes.len(), "{errors}");
    }
}
