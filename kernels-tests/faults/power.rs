//! The power goes: what was not synced is lost, in each of the ways that a file system may lose it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::command::{Case, cases, contents, difference, in_parallel, seed, takes_all};

/// A line of the interposer's log.
pub struct Call {
    pub what: String,
    /// Of a write: where it begins. Of a file that is opened: whether it is made. Of one that is resized: its size.
    first: u64,
    /// Of a write: how long it is. Of a file that is opened: whether it is emptied.
    pub second: u64,
    /// From the run's directory.
    pub path: String,
    /// Of what is renamed.
    to: String,
    written: Vec<u8>,
}

/// Reads a log; paths are from `root`.
pub fn read_log(log: &Path, root: &Path) -> Vec<Call> {
    let bytes = fs::read(log).unwrap();
    let root = root.to_str().unwrap();
    let below = |path: &str| {
        path.strip_prefix(root).unwrap_or(path).trim_start_matches('/').trim_start_matches("./").to_owned()
    };
    let mut calls = Vec::new();
    let mut rest = &bytes[..];
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&rest[..end]).unwrap();
        let fields: Vec<&str> = line.split('\t').collect();
        let [what, first, second, path, to] = fields[..] else { panic!("{line}") };
        let second: u64 = second.parse().unwrap();
        rest = &rest[end + 1..];
        let mut written = Vec::new();
        if what == "write" {
            written = rest[..second as usize].to_vec();
            rest = &rest[second as usize + 1..];
        }
        let first = first.parse().unwrap();
        calls.push(Call { what: what.to_owned(), first, second, path: below(path), to: below(to), written });
    }
    calls
}

/// A file or a directory, whatever its name is.
#[derive(Clone)]
enum Node {
    /// As a process sees it, and as it was last synced.
    File { now: Vec<u8>, synced: Vec<u8> },
    /// Names in it: as a process sees them, and as they were last synced.
    Dir { now: BTreeMap<String, usize>, synced: BTreeMap<String, usize> },
}

/// A disk.
#[derive(Clone)]
struct Disk {
    nodes: Vec<Node>,
}

/// What is left of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Data {
    Lost,
    Half,
    /// The length alone.
    Zeros,
    Kept,
}

const DATA: [Data; 4] = [Data::Lost, Data::Half, Data::Zeros, Data::Kept];

impl Disk {
    /// What is there before, synced.
    fn of(dir: &Path) -> Self {
        let mut disk = Self { nodes: Vec::new() };
        disk.load(dir);
        disk
    }

    fn load(&mut self, dir: &Path) -> usize {
        let place = self.add(Node::Dir { now: BTreeMap::new(), synced: BTreeMap::new() });
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let node = if path.is_dir() {
                self.load(&path)
            } else {
                let bytes = fs::read(&path).unwrap();
                self.add(Node::File { now: bytes.clone(), synced: bytes })
            };
            self.names(place).insert(path.file_name().unwrap().to_str().unwrap().to_owned(), node);
        }
        self.sync(place);
        place
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn names(&mut self, dir: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.nodes[dir] {
            Node::Dir { now, .. } => now,
            Node::File { .. } => panic!("a file has no names"),
        }
    }

    fn sync(&mut self, node: usize) {
        match &mut self.nodes[node] {
            Node::File { now, synced } => synced.clone_from(now),
            Node::Dir { now, synced } => synced.clone_from(now),
        }
    }

    fn at(&mut self, path: &str) -> Option<usize> {
        path.split('/')
            .filter(|name| !matches!(*name, "" | "."))
            .try_fold(0, |dir, name| self.names(dir).get(name).copied())
    }

    /// The names that a path's is among, and its own.
    fn place<'a>(&mut self, path: &'a str) -> (&mut BTreeMap<String, usize>, &'a str) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.at(dir).unwrap_or_else(|| panic!("{path}: in no directory"));
        (self.names(dir), name)
    }

    fn link(&mut self, path: &str, node: usize) {
        let (names, name) = self.place(path);
        names.insert(name.to_owned(), node);
    }

    fn unlink(&mut self, path: &str) -> usize {
        let (names, name) = self.place(path);
        names.remove(name).unwrap_or_else(|| panic!("{path}: is not there"))
    }

    fn file(&mut self, path: &str) -> &mut Vec<u8> {
        let node = self.at(path).unwrap_or_else(|| panic!("{path}: is not there"));
        match &mut self.nodes[node] {
            Node::File { now, .. } => now,
            Node::Dir { .. } => panic!("{path}: is a directory"),
        }
    }

    fn apply(&mut self, call: &Call) {
        let path = call.path.as_str();
        match call.what.as_str() {
            "mkdir" => {
                let node = self.add(Node::Dir { now: BTreeMap::new(), synced: BTreeMap::new() });
                self.link(path, node);
            }
            "open" if call.first == 1 => {
                let node = self.add(Node::File { now: Vec::new(), synced: Vec::new() });
                self.link(path, node);
            }
            "open" if call.second == 1 => self.file(path).clear(),
            "write" => {
                let (first, end) = (call.first as usize, (call.first + call.second) as usize);
                let file = self.file(path);
                file.resize(file.len().max(end), 0);
                file[first..end].copy_from_slice(&call.written);
            }
            "resize" => self.file(path).resize(call.first as usize, 0),
            "sync" => {
                let node = self.at(path).unwrap_or_else(|| panic!("{path}: is not there"));
                self.sync(node);
            }
            "remove" => {
                self.unlink(path);
            }
            "rename" => {
                let node = self.unlink(path);
                self.link(&call.to, node);
            }
            // The crate of tensors gives its temporary file the name by a call that cannot be seen; then we set its mode.
            "mode" => {
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                let temporary = self.at(dir).and_then(|dir| {
                    let names = self.names(dir);
                    let name = names.keys().find(|name| name.starts_with(".tmp"))?.clone();
                    names.remove(&name)
                });
                if let Some(node) = temporary {
                    self.link(path, node);
                }
            }
            _ => {}
        }
    }

    /// What is there after the cut, by name; a directory's ends with `/`.
    fn left(&self, names_are_kept: bool, data: Data) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        self.leave(0, "", names_are_kept, data, &mut found);
        found
    }

    fn leave(&self, node: usize, path: &str, names: bool, data: Data, found: &mut BTreeMap<String, Vec<u8>>) {
        match &self.nodes[node] {
            Node::Dir { now, synced } => {
                if !path.is_empty() {
                    found.insert(format!("{path}/"), Vec::new());
                }
                for (name, node) in if names { now } else { synced } {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    self.leave(*node, &path, names, data, found);
                }
            }
            Node::File { now, synced } => {
                let common = now.iter().zip(synced).take_while(|(now, synced)| now == synced).count();
                let bytes = match data {
                    Data::Lost => synced.clone(),
                    Data::Kept => now.clone(),
                    Data::Half => now[..common + (now.len() - common) / 2].to_vec(),
                    Data::Zeros => [&now[..common], &vec![0; now.len() - common][..]].concat(),
                };
                found.insert(path.to_owned(), bytes);
            }
        }
    }
}

/// A state of the disk after a cut: after how many calls, and what is left of the others.
struct Left {
    calls: usize,
    names_are_kept: bool,
    data: Data,
    /// The step of the last checkpoint that was there and synced.
    sealed: usize,
}

impl Left {
    fn disk(&self, case: &Case, calls: &[Call]) -> BTreeMap<String, Vec<u8>> {
        let mut disk = Disk::of(&case.template);
        calls[..self.calls].iter().for_each(|call| disk.apply(call));
        disk.left(self.names_are_kept, self.data)
    }
}

/// The step of the checkpoint that this call makes sure of: its directory has its name, and the name is synced.
fn sealed(calls: &[Call], at: usize) -> Option<usize> {
    let [renamed, synced] = calls.get(at.checked_sub(1)?..=at)? else { return None };
    let step = renamed.to.strip_prefix("out/checkpoint-")?.parse().ok()?;
    (synced.what == "sync" && synced.path == "out").then_some(step)
}

/// All states, or some; of those that are the same one is enough.
fn states(case: &Case, calls: &[Call]) -> Vec<Left> {
    let mut all = Vec::new();
    let mut sealed_step = 0;
    for at in 0..calls.len() {
        sealed_step = sealed(calls, at).unwrap_or(sealed_step);
        for names_are_kept in [false, true] {
            all.extend(DATA.map(|data| Left { calls: at + 1, names_are_kept, data, sealed: sealed_step }));
        }
    }
    let stride = if takes_all() { 1 } else { all.len().div_ceil(SOME) };
    let (mut seen, mut disk, mut done) = (HashSet::new(), Disk::of(&case.template), 0);
    let mut states: Vec<_> = all.into_iter().skip(seed() % stride).step_by(stride).collect();
    states.retain(|left| {
        calls[done..left.calls].iter().for_each(|call| disk.apply(call));
        done = left.calls;
        let mut hash = DefaultHasher::new();
        (left.sealed, disk.left(left.names_are_kept, left.data)).hash(&mut hash);
        seen.insert(hash.finish())
    });
    states
}

/// The rows of a run up to a step, with their times: a row that was computed again has others.
fn rows(run: &Path, steps: usize) -> Vec<String> {
    let text = fs::read_to_string(run.join("out/metrics.jsonl")).unwrap_or_default();
    text.lines().take(steps).map(str::to_owned).collect()
}

fn try_state(case: &Case, calls: &[Call], dir: &Path, left: &Left, whole: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in &left.disk(case, calls) {
        let path = dir.join(name);
        if name.ends_with('/') { fs::create_dir_all(path).unwrap() } else { fs::write(path, bytes).unwrap() }
    }
    case.again(dir)?;
    if rows(dir, left.sealed) != rows(whole, left.sealed) {
        return Err(format!("the checkpoint of step {} was lost", left.sealed));
    }
    difference(&contents(dir), &contents(whole)).map_or(Ok(()), Err)
}

/// States of a verb that `cargo test` takes.
const SOME: usize = 12;

#[test]
fn a_power_cut_loses_nothing_that_was_sealed() {
    let root = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for case in cases(root.path()) {
        let (whole, log) = (root.path().join("whole"), root.path().join("log"));
        case.start(&whole);
        assert!(case.run_under(&whole, None, Some(&log)).status.success());
        let calls = read_log(&log, &whole);
        let states = states(&case, &calls);
        println!("| {} | {} | {} |", case.name, calls.len(), states.len());
        let found = in_parallel(&states, |left| {
            let Left { calls: at, names_are_kept, data, .. } = *left;
            let dir = root.path().join(format!("{at}-{names_are_kept}-{data:?}"));
            let result = try_state(&case, &calls, &dir, left, &whole);
            fs::remove_dir_all(&dir).unwrap();
            let Call { what, path, .. } = &calls[at - 1];
            let how = format!("after call {at} ({what} {path}), names kept: {names_are_kept}, data {data:?}");
            result.err().map(|error| format!("{}, {how}: {error}", case.name))
        });
        failures.extend(found.into_iter().flatten());
        fs::remove_dir_all(&whole).unwrap();
        fs::remove_file(&log).unwrap();
    }
    assert!(failures.is_empty(), "{} states:\n{}", failures.len(), failures.join("\n"));
}
