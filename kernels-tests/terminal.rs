//! A run as a terminal shows it, of different widths, and as a pipe gets it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use regex::Regex;

use crate::command::{dqo, stderr};

/// A terminal of so many columns: what reads it, and what a process writes to.
pub fn terminal(columns: u16) -> (File, OwnedFd) {
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

/// A run of so many steps on rows of the demo's kind.
fn run(dir: &Path, steps: usize) -> Command {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let rows: String = (0..8)
        .map(|i| format!("{{\"prompt\": \"{i}+3\", \"completion\": \"7 7 7 7\", \"reward\": {}}}\n", i % 2))
        .collect();
    std::fs::write(dir.join("rows.jsonl"), rows).unwrap();
    let mut command = dqo();
    command.args(["train", "--method", "dqo", "--device", "cpu", "--batch-size", "4", "--model"]);
    command.arg(demo.join("model")).arg("--data").arg(dir.join("rows.jsonl")).arg("--output-dir").arg(dir.join("out"));
    command.arg("--max-steps").arg(steps.to_string());
    command
}

/// A bar of a run's steps, and the seconds from the run's begin at which it was drawn.
struct Bar {
    text: String,
    seconds: f64,
}

/// The bars of a run's steps, as a terminal of so many columns gets them.
fn bars(command: &mut Command, columns: u16) -> Vec<Bar> {
    let (reader, writer) = terminal(columns);
    bars_from(reader, writer, command)
}

/// The bars of a run whose stderr is `writer`.
fn bars_from(mut reader: impl Read, writer: impl Into<Stdio>, command: &mut Command) -> Vec<Bar> {
    let escapes = Regex::new(r"\x1b\[[0-9;?]*[A-Za-z]").unwrap();
    let start = Instant::now();
    let mut child = command.stderr(writer).spawn().unwrap();
    // Its own copy of the writer's end: while that is open, the reader waits.
    command.stderr(Stdio::null());
    let (mut bars, mut buffer) = (Vec::new(), [0; 1 << 16]);
    // The reader's end is told of the process's by an error: there is nobody left who writes.
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        let seconds = start.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let lines = text.split(['\r', '\n']).map(|line| escapes.replace_all(line, "").into_owned());
        bars.extend(lines.filter(|line| line.starts_with("train ")).map(|text| Bar { text, seconds }));
    }
    assert!(child.wait().unwrap().success());
    bars
}

fn assert_that_none_wraps(bars: &[Bar], columns: u16) {
    assert!(bars.iter().any(|bar| bar.text.contains("left ") && bar.text.contains("loss ")), "{columns} columns");
    for bar in bars {
        assert!(bar.text.chars().count() <= usize::from(columns), "{columns} columns: {}", bar.text);
    }
}

#[test]
fn no_line_of_a_terminal_wraps() {
    for columns in [60, 120] {
        let dir = tempfile::tempdir().unwrap();
        assert_that_none_wraps(&bars(&mut run(dir.path(), 40), columns), columns);
    }
}

/// Seconds of a span such as `1 min 05 s`.
fn seconds(span: &str) -> f64 {
    let words: Vec<&str> = span.split_whitespace().collect();
    let unit = |name| words.iter().position(|word| *word == name).map_or(0.0, |at| words[at - 1].parse().unwrap());
    3600.0 * unit("h") + 60.0 * unit("min") + unit("s")
}

/// The time left depends on what else the machine does: it is for a quiet one, and takes nine minutes.
#[test]
#[ignore = "times a run: cargo test --release -- --ignored the_time_left"]
fn the_time_left_is_the_time_that_is_left() {
    let shown = Regex::new(r"(\d+)/(\d+) left ([^,]*)").unwrap();
    const STEPS: usize = 1000;
    let dir = tempfile::tempdir().unwrap();
    let first = bars(&mut run(dir.path(), STEPS), 60).last().unwrap().seconds;
    let of_three_minutes = (180.0 / first * STEPS as f64) as usize;
    for columns in [Some(60), Some(120), None] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = run(dir.path(), of_three_minutes);
        let bars = match columns {
            Some(columns) => bars(&mut command, columns),
            None => {
                let (reader, writer) = std::io::pipe().unwrap();
                bars_from(reader, writer, &mut command)
            }
        };
        columns.iter().for_each(|&columns| assert_that_none_wraps(&bars, columns));
        let end = bars.last().unwrap().seconds;
        let mut compared = 0;
        for bar in &bars {
            let Some(found) = shown.captures(&bar.text) else { continue };
            let share = found[1].parse::<f64>().unwrap() / found[2].parse::<f64>().unwrap();
            // Near the end, what is left is no longer than the pauses between two bars.
            if (0.1..0.95).contains(&share) {
                let ratio = seconds(&found[3]) / (end - bar.seconds);
                assert!((0.7..1.3).contains(&ratio), "{}: {:.0} s were left", bar.text, end - bar.seconds);
                compared += 1;
            }
        }
        println!("{columns:?} columns: {compared} bars in {end:.0} s");
        // A pipe gets a line every five seconds.
        assert!(compared > if columns.is_some() { 100 } else { 20 });
    }
}

#[test]
fn a_pipe_gets_plain_lines_with_the_time_left() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), 40).output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find(|line| line.starts_with("train 1/40 ")).unwrap_or_else(|| panic!("{text}"));
    for part in ["left ", "loss ", "reward ", "log ratio ", "learning rate ", "tokens/s"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(text.lines().any(|line| line.starts_with("train 40/40 loss ")), "{text}");
}
