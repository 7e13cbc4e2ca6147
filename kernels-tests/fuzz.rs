//! Mutated input: whatever a file holds, reading it gives a result or an error: no panic, no hang, no memory without bound.
//! `DQO_FUZZ=COUNT` tries so many mutations in place of a few, `DQO_FUZZ_SEED` others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[path = "../fuzz/targets.rs"]
mod targets;

use targets::{TARGETS, Target};

/// What takes a place, or is put in: numbers at the ends of their types, values of other types, text that is none.
const PIECES: &[&str] = &[
    "0",
    "-1",
    "1e308",
    "1e-320",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"x\"",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "\\u0000",
    "\u{feff}",
    "{{",
    "{% for i in range(1000000) %}",
    "[[[[[[[[",
    "\"rope_type\": \"llama3\",",
    "\n",
    "\"",
];

/// One to four edits.
fn mutate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(1..=4) {
        let length = bytes.len().max(1);
        let place = random.random_range(0..length).min(bytes.len());
        let end = (place + random.random_range(0..32)).min(bytes.len());
        match random.random_range(0..7) {
            0 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
            1 => bytes.truncate(place),
            2 => drop(bytes.drain(place..end)),
            3 => {
                let copy = bytes[place..end].to_vec();
                bytes.splice(end..end, copy);
            }
            4 => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                bytes.splice(place..place, piece.bytes());
            }
            5 if place < bytes.len() => bytes[place] = random.next_u32() as u8,
            // A number or a word becomes another.
            _ => {
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
                let start = bytes[..place].iter().rposition(|byte| !is_word(byte)).map_or(0, |before| before + 1);
                let end =
                    bytes[place..].iter().position(|byte| !is_word(byte)).map_or(bytes.len(), |after| place + after);
                let piece = PIECES[random.random_range(0..PIECES.len())];
                bytes.splice(start..end, piece.bytes());
            }
        }
    }
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// A target's files in fuzz/corpus: what once failed, or is like it.
fn corpus(target: &Target) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What one process tries, which has little memory: all of the corpus as it is, then mutations of it and of the seeds. The file
/// `at` says what it is at.
#[test]
#[ignore = "is started by the test below"]
fn worker() {
    let Ok(root) = std::env::var("DQO_FUZZ_ROOT") else { return };
    let root = PathBuf::from(root);
    let (seed, first, end) =
        (number_from("DQO_FUZZ_SEED", 1), number_from("DQO_FUZZ_FIRST", 0), number_from("DQO_FUZZ_END", 0));
    let known: Vec<_> =
        TARGETS.iter().flat_map(|target| corpus(target).into_iter().map(move |file| (target, file))).collect();
    for index in first..end {
        let mut random = ChaCha8Rng::seed_from_u64(seed << 32 | index);
        let as_it_is = known.get(index as usize);
        let target = as_it_is.map_or(&TARGETS[index as usize % TARGETS.len()], |(target, _)| target);
        let dir = root.join("case");
        let _ = fs::remove_dir_all(&dir);
        target.fill(&dir, random.random_range(0..target.seeds.len().max(1)));
        let path = dir.join(target.file);
        let begins_at_a_seed = random.random_bool(0.75);
        let begin = match as_it_is {
            Some((_, file)) => file.clone(),
            None if begins_at_a_seed => path.clone(),
            None => {
                let of_target: Vec<_> = known.iter().filter(|(known, _)| known.name == target.name).collect();
                of_target.choose(&mut random).unwrap().1.clone()
            }
        };
        let mut bytes = fs::read(&begin).unwrap();
        if as_it_is.is_none() {
            mutate(&mut bytes, &mut random);
        }
        fs::write(&path, bytes).unwrap();
        fs::write(root.join("at"), format!("{index} {} from {}", target.name, begin.display())).unwrap();
        (target.read)(&dir);
    }
}

#[cfg(unix)]
#[test]
fn mutated_input_is_read_or_refused() {
    let count = number_from("DQO_FUZZ", 2400);
    // Of 1 GiB, and what the process has mapped before it reads anything.
    const MEMORY_KIB: u64 = (1 << 20) + (1 << 19);
    let root = tempfile::tempdir().unwrap();
    let at = root.path().join("at");
    let mut first = 0;
    let mut failed = Vec::new();
    while first < count {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "fuzz::worker", "--test-threads", "1"]);
        command.env("DQO_FUZZ_ROOT", root.path()).env("DQO_FUZZ_FIRST", first.to_string());
        command.env("DQO_FUZZ_END", count.to_string()).env("RAYON_NUM_THREADS", "1").env("RUST_BACKTRACE", "0");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let status = watched(&mut child, &at);
        let said = fs::read_to_string(&at).unwrap_or_default();
        match status {
            Some(true) => break,
            ended => {
                let kept = fs::read_dir(root.path().join("case")).unwrap().count();
                let how = if ended.is_none() { "hangs" } else { "panics, or takes too much memory" };
                failed.push(format!("{said}: {how} ({kept} files)"));
                first = said.split(' ').next().unwrap().parse::<u64>().unwrap() + 1;
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
}

/// Waits for a worker; whether it succeeded, and nothing where it was at one mutation for too long.
fn watched(child: &mut std::process::Child, at: &Path) -> Option<bool> {
    let (mut seen, mut since) = (String::new(), Instant::now());
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        let now = fs::read_to_string(at).unwrap_or_default();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        if since.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
