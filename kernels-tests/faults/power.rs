//! What a verb did to its files, call by call.

use std::path::Path;

/// A line of the interposer's log.
pub struct Call {
    pub what: String,
    /// Of a write: where it begins, and how long it is.
    pub second: u64,
    /// From the run's directory.
    pub path: String,
}

/// Reads a log; paths are from `root`.
pub fn read_log(log: &Path, root: &Path) -> Vec<Call> {
    let bytes = std::fs::read(log).unwrap();
    let root = root.to_str().unwrap();
    let mut calls = Vec::new();
    let mut rest = &bytes[..];
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&rest[..end]).unwrap();
        let fields: Vec<&str> = line.split('\t').collect();
        let [what, _, second, path, _] = fields[..] else { panic!("{line}") };
        let second: u64 = second.parse().unwrap();
        rest = &rest[end + 1..];
        if what == "write" {
            rest = &rest[second as usize + 1..];
        }
        let path = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
        calls.push(Call { what: what.to_owned(), second, path: path.to_owned() });
    }
    calls
}
