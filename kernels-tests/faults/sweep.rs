//! Every call of every verb, under every fault.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::command::{Case, Fault, cases, contents, difference, in_parallel, seed, takes_all};
use super::power::{Call, read_log};

const KINDS: [&str; 5] = ["kill", "half", "full", "EIO", "EINTR"];
/// Points of a verb and a kind that `cargo test` takes.
const SOME: usize = 4;

/// Whether a fault of this kind does at this call what it does at no other.
fn is_met(kind: &str, call: &Call) -> bool {
    match kind {
        "half" => call.what == "write" && call.second > 1,
        "full" => matches!(call.what.as_str(), "write" | "open" | "mkdir" | "rename"),
        "EINTR" => matches!(call.what.as_str(), "write" | "open" | "sync" | "resize"),
        _ => true,
    }
}

/// What went wrong at a point.
fn try_point(case: &Case, dir: &Path, fault: Fault, whole: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    case.start(dir);
    let output = case.run_under(dir, Some(fault), None);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
    let is_killed = matches!(fault.kind, "kill" | "half");
    match output.status.code() {
        Some(97) if is_killed => {}
        Some(0) if !is_killed => {
            return difference(&contents(dir), whole).map_or(Ok(()), |how| Err(format!("succeeded, but {how}")));
        }
        Some(1) if errors == 1 && matches!(fault.kind, "full" | "EIO") => {
            let found = contents(dir);
            let hidden: Vec<_> =
                found.keys().filter(|name| name.split('/').any(|part| part.starts_with('.'))).collect();
            if !hidden.is_empty() && fault.kind == "full" {
                return Err(format!("left {hidden:?}; {said}"));
            }
        }
        code => return Err(format!("ended with {code:?}: {said}")),
    }
    case.again(dir)?;
    difference(&contents(dir), whole).map_or(Ok(()), |how| Err(format!("{how}; it had said: {said}")))
}

#[test]
fn every_verb_survives_a_fault_at_every_call() {
    let root = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for case in cases(root.path()) {
        let whole = root.path().join("whole");
        case.start(&whole);
        let log = root.path().join("log");
        let output = case.run_under(&whole, None, Some(&log));
        assert!(output.status.success(), "{}: {}", case.name, String::from_utf8_lossy(&output.stderr));
        let (whole_contents, calls) = (contents(&whole), read_log(&log, &whole));
        let mut points = Vec::new();
        for kind in KINDS {
            let all: Vec<_> = (1..=calls.len()).filter(|at| is_met(kind, &calls[at - 1])).collect();
            let stride = if takes_all() { 1 } else { all.len().div_ceil(SOME).max(1) };
            points.extend(all.iter().skip(seed() % stride).step_by(stride).map(|&at| Fault { at, kind }));
        }
        let count = |kind: &str| points.iter().filter(|fault| fault.kind == kind).count();
        println!("| {} | {} | {} |", case.name, calls.len(), KINDS.map(|kind| count(kind).to_string()).join(" | "));
        let found = in_parallel(&points, |fault| {
            let dir = root.path().join(format!("{}-{}", fault.kind, fault.at));
            let tried = try_point(&case, &dir, *fault, &whole_contents);
            fs::remove_dir_all(&dir).unwrap();
            let call = &calls[fault.at - 1];
            tried.err().map(|how| {
                let how = format!("{}, {} at {} ({} {}): {how}", case.name, fault.kind, fault.at, call.what, call.path);
                println!("{how}");
                how
            })
        });
        failures.extend(found.into_iter().flatten());
        fs::remove_dir_all(&whole).unwrap();
        fs::remove_file(&log).unwrap();
    }
    assert!(failures.is_empty(), "{} points:\n{}", failures.len(), failures.join("\n"));
}
