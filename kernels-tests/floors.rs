//! The house: a floor imports only what is below it, and no files import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

/// The floors, ground first; a floor may use those in the lines before it, and none of its own line but itself.
const FLOORS: &[&[&str]] = &[
    &["files", "format", "progress"],
    &["gpu"],
    &["device"],
    &["gguf"],
    &["source"],
    &["kernels"],
    &["self_test"],
    &["data"],
    &["model"],
    &["objective"],
    &["sample"],
    &["train"],
    &["report"],
    &["demo"],
    &["benches"],
    &["cli"],
];

/// What stands beside the floors: anyone but the ground may use it, and it uses the ground alone.
const BESIDE: &[&str] = &["grade", "hub", "ranks"];

/// A file of the library: its module's path (`train::optimizer`) and what it imports.
struct File {
    path: PathBuf,
    module: Vec<String>,
    /// Paths from the root of the crate.
    imports: BTreeSet<Vec<String>>,
}

impl File {
    fn floor(&self) -> &str {
        &self.module[0]
    }
}

/// Paths that a file's text imports; what only its unit tests use does not count, nor what a mod.rs passes on.
fn imports(text: &str, module: &[String], is_mod: bool) -> BTreeSet<Vec<String>> {
    let text = text.split("#[cfg(test)]").next().unwrap();
    let code: String = text.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect();
    let code = Regex::new(r"pub(\([a-z]+\))? use [^;]*;").unwrap().replace_all(&code, "").into_owned();
    let parent = if is_mod { module } else { &module[..module.len() - 1] };
    let path = Regex::new(r"\b(crate|super)((?:::\w+)+)(?:::\{([^;]*?)\};)?").unwrap();
    let mut found = BTreeSet::new();
    for import in path.captures_iter(&code) {
        let mut from: Vec<String> = if &import[1] == "crate" { Vec::new() } else { parent.to_vec() };
        if &import[1] == "super" && is_mod {
            from.pop();
        }
        from.extend(import[2].split("::").filter(|name| !name.is_empty()).map(str::to_owned));
        found.insert(from);
    }
    // `use super::{a, b};`
    for import in Regex::new(r"\bsuper::\{([^}]*)\}").unwrap().captures_iter(&code) {
        for name in import[1].split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let mut from = parent.to_vec();
            from.extend(name.split("::").map(|name| name.split(' ').next().unwrap().to_owned()));
            found.insert(from);
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The library's files, but lib.rs and main.rs, which have no floor.
fn library() -> Vec<File> {
    let mut files = Vec::new();
    for (folder, prefix) in [("src", None), ("benches", Some("benches"))] {
        let folder = root().join(folder);
        let mut paths = Vec::new();
        walk(&folder, &mut paths);
        for path in paths {
            let inside = path.strip_prefix(&folder).unwrap().with_extension("");
            let mut module: Vec<String> = prefix.into_iter().map(str::to_owned).collect();
            module.extend(inside.iter().map(|name| name.to_string_lossy().into_owned()));
            let is_mod = module.last().unwrap() == "mod";
            if is_mod {
                module.pop();
            }
            if module == ["lib"] || module == ["main"] {
                continue;
            }
            let imports = imports(&std::fs::read_to_string(&path).unwrap(), &module, is_mod);
            files.push(File { path: path.strip_prefix(root()).unwrap().to_owned(), module, imports });
        }
    }
    files
}

/// The line of a floor in [`FLOORS`].
fn level(floor: &str) -> Option<usize> {
    FLOORS.iter().position(|floors| floors.contains(&floor))
}

/// Why a file of `floor` may not import from `other`, where it may not.
fn forbidden(floor: &str, other: &str) -> Option<String> {
    if floor == other {
        return None;
    }
    let ground = FLOORS[0];
    if BESIDE.contains(&floor) {
        return (!ground.contains(&other))
            .then(|| format!("{floor} stands beside the floors and uses the ground alone"));
    }
    if BESIDE.contains(&other) {
        return ground.contains(&floor).then(|| format!("{other} stands above the ground"));
    }
    let (Some(level), Some(of_other)) = (level(floor), level(other)) else {
        return Some(format!("{floor} or {other} has no floor: give it one in {}", file!()));
    };
    (of_other >= level).then(|| format!("{other} is not below {floor}"))
}

#[test]
fn every_import_looks_down() {
    let library = library();
    let floors: BTreeSet<&str> = library.iter().map(File::floor).collect();
    let mut wrong = Vec::new();
    for file in &library {
        for import in file.imports.iter().filter(|import| floors.contains(import[0].as_str())) {
            if let Some(why) = forbidden(file.floor(), &import[0]) {
                wrong.push(format!("{} imports {}: {why}", file.path.display(), import.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(library.len() > 150, "only {} files were read", library.len());
}

/// The file that a path leads into: of its longest beginning that is a module.
fn target(modules: &BTreeMap<&[String], usize>, import: &[String]) -> Option<usize> {
    (1..=import.len()).rev().find_map(|length| modules.get(&import[..length]).copied())
}

/// The files that a file imports, directly or not.
fn reached(edges: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<usize> = edges[from].iter().copied().collect();
    while let Some(file) = next.pop() {
        if seen.insert(file) {
            next.extend(&edges[file]);
        }
    }
    seen
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let library = library();
    let modules: BTreeMap<&[String], usize> =
        library.iter().enumerate().map(|(index, file)| (&file.module[..], index)).collect();
    let targets = |file: &File| file.imports.iter().filter_map(|import| target(&modules, import)).collect();
    let mut edges: Vec<BTreeSet<usize>> = library.iter().map(targets).collect();
    for (index, targets) in edges.iter_mut().enumerate() {
        targets.remove(&index);
    }
    let in_circle = |index: &usize| reached(&edges, *index).contains(index);
    let circle: Vec<_> =
        (0..library.len()).filter(in_circle).map(|index| library[index].path.display().to_string()).collect();
    assert!(circle.is_empty(), "these files import each other in circles: {}", circle.join(", "));
}

#[test]
fn what_breaks_the_rules_is_found() {
    assert!(forbidden("gpu", "kernels").is_some() && forbidden("sample", "train").is_some());
    assert!(forbidden("grade", "data").is_some() && forbidden("files", "hub").is_some());
    assert!(forbidden("train", "grade").is_none() && forbidden("cli", "format").is_none());
    let module: Vec<String> = ["model", "layer"].map(str::to_owned).into();
    let text = "use super::norm::Norm;\nuse super::{Build, pass::Pass};\nfn f() { crate::hub::find(); }\npub use crate::a::B;\n\
                #[cfg(test)]\nuse crate::train::Run;";
    let found: Vec<String> = imports(text, &module, false).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["hub::find", "model::Build", "model::norm::Norm", "model::pass::Pass"]);
}

/// The lines of the longest function of a text whose blocks are indented as rustfmt does, and its first line.
fn longest_function(text: &str) -> (usize, &str) {
    let lines: Vec<&str> = text.lines().collect();
    let is_function = |line: &str| Regex::new(r"^ *(pub(\([a-z]+\))? )?fn ").unwrap().is_match(line);
    let length = |first: usize| {
        let indent = lines[first].len() - lines[first].trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        lines[first..].iter().position(|line| *line == end).map_or(1, |length| length + 1)
    };
    let functions = (0..lines.len()).filter(|&line| is_function(lines[line]));
    functions.map(|first| (length(first), lines[first])).max().unwrap_or((0, ""))
}

#[test]
fn the_trainers_functions_are_paragraphs() {
    let mut paths = Vec::new();
    walk(&root().join("src/train"), &mut paths);
    assert!(paths.len() > 20);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let (lines, function) = longest_function(&text);
        assert!(lines <= 60, "{}: {} has {lines} lines", path.display(), function.trim());
    }
    let three = "fn a() {\n}\nimpl A {\n    pub fn b(\n    ) {\n    }\n}";
    assert_eq!(longest_function(three), (3, "    pub fn b("));
}
