//! What the command writes for shells and for `man`, read by those that are there.

use std::fs;
use std::process::Command;

use crate::command::{dqo, stderr, verbs};

/// The verbs' names.
fn names() -> Vec<String> {
    verbs().iter().map(|verb| verb.get_name().to_owned()).collect()
}

/// Whether a program is on the PATH.
fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn every_shell_completes_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = dqo().args(["completions", shell]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let script = String::from_utf8(output.stdout).unwrap();
        for name in names().iter().map(String::as_str).chain(["--lora-r", "--clip-range", "--top-p"]) {
            let name = if shell == "fish" { name.trim_start_matches("--") } else { name };
            assert!(script.contains(name), "{shell}: {name}");
        }
        let path = dir.path().join(shell);
        fs::write(&path, script).unwrap();
        if shell != "powershell" && is_there(shell) {
            let read = Command::new(shell).arg("-n").arg(&path).output().unwrap();
            assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {}", stderr(&read));
        }
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let output = dqo().arg("man").arg("--output-dir").arg(&pages).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let names: Vec<String> =
        names().iter().map(|verb| format!("dqo-wgpu-{verb}")).chain(["dqo-wgpu".to_owned()]).collect();
    assert_eq!(fs::read_dir(&pages).unwrap().count(), names.len());
    for name in names {
        let path = pages.join(format!("{name}.1"));
        let page = fs::read_to_string(&path).unwrap();
        assert!(page.contains(".TH ") && page.contains(".SH OPTIONS"), "{name}");
        if is_there("groff") {
            let read = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&path).output().unwrap();
            assert!(read.status.success() && read.stderr.is_empty(), "{name}: {}", stderr(&read));
        }
    }
    let page = fs::read_to_string(pages.join("dqo-wgpu-train.1")).unwrap();
    for option in ["method", "lora\\-r", "clip\\-range"] {
        assert!(page.contains(option), "{option}");
    }
}
