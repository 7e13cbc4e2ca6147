//! `report --watch`: the page is written again while a run goes on, and for the last time when it has ended.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use dqo_wgpu::files::open_locked;

use crate::command::{dqo, error_of};
use crate::report::run;
#[cfg(unix)]
use crate::resume::signal;

fn watch(run: &Path, page: &Path) -> Child {
    let mut command = dqo();
    command.args(["report", "--watch", "1", "--output"]).arg(page).arg(run);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a page that says this.
#[track_caller]
fn wait_for(page: &Path, text: &str) {
    let is_there = || fs::read_to_string(page).is_ok_and(|page| page.contains(text));
    for _ in 0..200 {
        if is_there() {
            return;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("no page says {text}");
}

const ASKS: &str = "<body data-reload=\"1\">";

#[test]
fn a_page_is_written_again_until_the_run_has_ended() {
    let root = tempfile::tempdir().unwrap();
    // A run that has begun, and has no rows yet.
    let dir = run(root.path(), "one", "", "method = \"dqo\"\n");
    let held = open_locked(&dir.join("lock"), &dir).unwrap();
    let page = root.path().join("page.html");
    let watching = watch(&dir, &page);
    sleep(Duration::from_millis(300));
    assert!(!page.exists());
    fs::write(dir.join("metrics.jsonl"), "{\"step\":1,\"loss\":2}\n").unwrap();
    wait_for(&page, "one: dqo, 1 step so far: loss 2");
    wait_for(&page, ASKS);
    fs::write(dir.join("metrics.jsonl"), "{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":1}\n").unwrap();
    wait_for(&page, "2 steps so far");
    drop(held);
    let output = watching.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("waiting: ").count(), 1, "{said}");
    assert!(said.contains("metrics.jsonl: has no rows"), "{said}");
    let last = fs::read_to_string(&page).unwrap();
    assert!(!last.contains(ASKS) && last.contains("one: dqo, 2 steps: loss"), "the last page asks for no other");
}

/// What is wrong with a run that does not go on is said, and no page is written.
#[test]
fn a_run_that_has_ended_is_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let dir = run(root.path(), "one", "", "");
    let page = root.path().join("page.html");
    let error = error_of(dqo().args(["report", "--watch", "1", "--output"]).arg(&page).arg(&dir));
    assert!(error.ends_with("metrics.jsonl: has no rows") && !page.exists(), "{error}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_watch_with_a_last_page() {
    let root = tempfile::tempdir().unwrap();
    let dir = run(root.path(), "one", "{\"step\":1,\"loss\":2}\n", "");
    let _held = open_locked(&dir.join("lock"), &dir).unwrap();
    let page = root.path().join("page.html");
    let watching = watch(&dir, &page);
    wait_for(&page, ASKS);
    signal(&watching, "INT");
    assert_eq!(watching.wait_with_output().unwrap().status.code(), Some(130));
    assert!(!fs::read_to_string(&page).unwrap().contains(ASKS));
}
