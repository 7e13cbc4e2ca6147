//! A run as a terminal shows it, of different widths, and as a pipe gets it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use regex::Regex;

use crate::command::{dqo, stderr};

/// A terminal of so many columns: what reads it, and what a process writes to.
fn terminal(columns: u16) -> (File, OwnedFd) {
    let (mut reader, mut writer) = (0, 0);
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the two numbers and the size are ours and live; null is what the call takes for no name and no settings.
    let failed = unsafe {
        let (name, settings) = (std::ptr::null_mut(), std::ptr::null_mut());
        libc::openpty(&mut reader, &mut writer, name, settings, std::ptr::from_ref(&size).cast_mut())
    };
    assert_eq!(failed, 0, "no terminal");
    // SAFETY: both were just opened, and nobody else has them.
    unsafe { (File::from_raw_fd(reader), OwnedFd::from_raw_fd(writer)) }
}

/// A short run on the demo's rows.
fn run(dir: &Path) -> Command {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let rows: String = (0..8)
        .map(|i| format!("{{\"prompt\": \"{i}+3\", \"completion\": \"7 7 7 7\", \"reward\": {}}}\n", i % 2))
        .collect();
    std::fs::write(dir.join("rows.jsonl"), rows).unwrap();
    let mut command = dqo();
    command.args(["train", "--method", "dqo", "--device", "cpu", "--max-steps", "40", "--batch-size", "4", "--model"]);
    command.arg(demo.join("model")).arg("--data").arg(dir.join("rows.jsonl")).arg("--output-dir").arg(dir.join("out"));
    command
}

#[test]
fn no_line_of_a_terminal_wraps() {
    let escapes = Regex::new(r"\x1b\[[0-9;?]*[A-Za-z]").unwrap();
    for columns in [60, 120] {
        let dir = tempfile::tempdir().unwrap();
        let (mut reader, writer) = terminal(columns);
        let mut child = run(dir.path()).stderr(writer).spawn().unwrap();
        let mut shown = Vec::new();
        // The reader's end is told of the process's by an error: there is nobody left who writes.
        let _ = reader.read_to_end(&mut shown);
        assert!(child.wait().unwrap().success());
        let text = String::from_utf8_lossy(&shown).into_owned();
        let bars: Vec<String> = text
            .split(['\r', '\n'])
            .map(|line| escapes.replace_all(line, "").into_owned())
            .filter(|line| line.starts_with("train "))
            .collect();
        assert!(bars.iter().any(|bar| bar.contains("left ") && bar.contains("loss ")), "{columns} columns: {text}");
        for bar in bars {
            assert!(bar.chars().count() <= usize::from(columns), "{columns} columns: {bar}");
        }
    }
}

#[test]
fn a_pipe_gets_plain_lines_with_the_time_left() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path()).output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find(|line| line.starts_with("train 1/40 ")).unwrap_or_else(|| panic!("{text}"));
    for part in ["left ", "loss ", "reward ", "log ratio ", "learning rate ", "tokens/s"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(text.lines().any(|line| line.starts_with("train 40/40 loss ")), "{text}");
}
