//! Running the command as a user does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::model::golden;

/// The command, on the CPU device's machine alone: no test depends on the adapter unless it says so. Shaders check all.
pub fn dqo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dqo-wgpu"));
    command.env("DQO_SHADER_CHECKS", "1");
    command
}

/// A command whose files end after so many blocks of 512 bytes, in the middle of a write: it stands in for a full disk. The
/// signal is ignored, so that the write fails as it does there.
#[cfg(unix)]
pub fn on_full_disk(blocks: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

/// `train` on a golden set's networks and rows. Golden rows are copied beside `output`: runs write beside their rows.
pub fn train(set: &str, rows: &Path, output: &Path) -> Command {
    let set = golden(set);
    let mut command = dqo();
    command.args(["train", "--method", "dqo", "--device", "cpu", "--batch-size", "4"]);
    command.arg("--model").arg(set.join("policy")).arg("--value-model").arg(set.join("value"));
    let copy = output.with_extension("rows.jsonl");
    // Where nothing can be written beside `output`, the run does not begin either.
    let rows = if rows.starts_with(golden("")) && std::fs::copy(rows, &copy).is_ok() { &copy } else { rows };
    command.arg("--data").arg(rows).arg("--output-dir").arg(output);
    command
}

/// The verbs, as clap has them.
pub fn verbs() -> Vec<clap::Command> {
    dqo_wgpu::cli::command().get_subcommands().cloned().collect()
}

/// What a process wrote to stderr, without the lines of a graphics driver.
pub fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| !line.contains("XDG_RUNTIME_DIR")).map(|line| format!("{line}\n")).collect()
}

/// The message of a command that fails with exit code 1, without its `error: `.
#[track_caller]
pub fn error_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let begins = |line: &str| line.starts_with("error: ");
    let message: Vec<_> = stderr.lines().skip_while(|line| !begins(line)).collect();
    let message = message.join("\n");
    message.strip_prefix("error: ").unwrap_or_else(|| panic!("no error in: {stderr}")).to_owned()
}

/// A copy of a golden directory that a test may damage.
pub fn copy_of(set: &str, to: &Path) -> PathBuf {
    copy_dir(&golden(set), to);
    to.to_owned()
}

/// Copies a directory with all that is in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_dir(&path, &target) } else { std::fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

/// What a command that succeeds prints as JSON.
pub fn json_of(command: &mut Command) -> serde_json::Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}
