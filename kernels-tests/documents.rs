//! The documents are true: the tree is today's, the table has every kernel with its formula, commands parse, every option is
//! told, links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dqo_wgpu::kernels::ALL;
use regex::Regex;

use crate::command::dqo;
use crate::model::golden;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap()
}

/// What a folder has and git does not ignore by its whole path, sorted by name.
fn entries(folder: &Path) -> Vec<PathBuf> {
    static IGNORED: LazyLock<String> = LazyLock::new(|| read(&root().join(".gitignore")));
    let is_ignored = |path: &PathBuf| {
        let path = path.strip_prefix(root()).unwrap();
        IGNORED.lines().filter_map(|line| line.strip_prefix('/')).any(|ignored| path == Path::new(ignored))
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| !is_ignored(path));
    paths.sort();
    paths
}

/// The documents whose links and commands are checked.
fn documents() -> Vec<PathBuf> {
    let is_markdown = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    entries(root()).into_iter().chain(entries(&root().join("docs"))).filter(is_markdown).collect()
}

/// Where the text between two marks of a document stands.
fn section(path: &Path, text: &str, name: &str) -> Range<usize> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let start = text.find(&begin).unwrap_or_else(|| panic!("{} has no {begin}", path.display())) + begin.len();
    let length = text[start..].find(&end).unwrap_or_else(|| panic!("{} has no {end}", path.display()));
    start..start + length
}

/// The first sentence that a file says of itself, as its language has it; a document's title.
fn first_sentence(path: &Path) -> String {
    let text = read(path);
    let start = ["//!", "//", "#", "\"\"\""];
    let is_comment = |line: &&str| start.iter().any(|mark| line.starts_with(mark)) && !line.starts_with("#!");
    let lines = text.lines().skip_while(|line| !is_comment(line));
    let in_docstring = text.starts_with("\"\"\"");
    let lines = lines.take_while(|line| if in_docstring { !line.is_empty() } else { is_comment(line) });
    let strip = |line: &str| line.trim_start_matches(['/', '!', '#', '"']).trim().to_owned();
    let paragraph: Vec<String> = lines.map(strip).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let paragraph = paragraph.trim_end_matches(['.', '"']);
    let is_end = |stop: &usize| paragraph[stop + 2..].starts_with(|next: char| next.is_uppercase());
    let end = paragraph.match_indices(". ").map(|(stop, _)| stop).find(is_end);
    paragraph[..end.unwrap_or(paragraph.len())].to_owned()
}

/// Where the descriptions begin.
const WIDTH: usize = 26;

/// What a folder is: what its module says of itself, or what is said here of those that are none.
fn about_folder(folder: &Path) -> String {
    let module = ["mod.rs", "lib.rs", "main.rs"].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
    if let Some(module) = module {
        return first_sentence(&module);
    }
    let about = match folder.strip_prefix(root()).unwrap().to_str().unwrap() {
        "assets" => "The demo's model and problems, which the binary has inside it; tools/demo_assets.py makes them",
        "docs" => "The documents; README.md in it is their index",
        "kernels-tests/goldens" => "What PyTorch, transformers, TRL and PEFT compute; tools/goldens makes it",
        "fuzz/corpus" => "For each target files that once failed, or are like some that did; the tests read them too",
        "fuzz/fuzz_targets" => "A program a target",
        "examples" => "Programs on the library",
        "shaders" => "One .wgsl a kernel",
        "shaders/shared" => "What several shaders include",
        "tools" => "Set-up, demo and tests; what makes documents and goldens, and compares with PyTorch",
        "tools/goldens" => "What makes kernels-tests/goldens",
        _ => "",
    };
    about.to_owned()
}

/// Files that say what they are.
const KNOWN: [&str; 5] = ["rs", "wgsl", "py", "md", ""];

fn is_known(path: &Path) -> bool {
    KNOWN.contains(&path.extension().map_or("", |extension| extension.to_str().unwrap()))
}

/// Whether a folder has only data in it, of which nothing is told but what the folder is.
fn is_data(folder: &Path) -> bool {
    entries(folder).iter().all(|path| if path.is_dir() { is_data(path) } else { !is_known(path) })
}

/// A folder and all below it, a line each, files first; what is one of a kernel's places is left to the kernels' table.
fn tree(folder: &Path, depth: usize, kernels: &BTreeSet<&str>, text: &mut String) {
    let mut line = |depth: usize, name: &str, about: &str| {
        let line = format!("{:indent$}{name:width$}{about}", "", indent = 2 * depth, width = WIDTH - 2 * depth);
        writeln!(text, "{}", line.trim_end()).unwrap();
    };
    line(depth, &format!("{}/", name(folder)), &about_folder(folder));
    if is_data(folder) {
        return;
    }
    let (folders, files): (Vec<_>, Vec<_>) = entries(folder).into_iter().partition(|path| path.is_dir());
    let is_place = ["src/kernels", "shaders", "benches", "kernels-tests"].iter().any(|place| folder.ends_with(place));
    for path in files {
        let is_kernels = is_place && kernels.contains(path.file_stem().unwrap().to_str().unwrap());
        if is_known(&path) && !is_kernels && !["mod.rs", "lib.rs"].contains(&name(&path)) {
            line(depth + 1, name(&path), &first_sentence(&path));
        }
    }
    for path in folders.iter().filter(|path| name(path) != "__pycache__") {
        tree(path, depth + 1, kernels, text);
    }
}

/// The folders of the project: none that is hidden.
fn folders() -> Vec<PathBuf> {
    entries(root()).into_iter().filter(|path| path.is_dir() && !name(path).starts_with('.')).collect()
}

#[test]
fn the_tree_is_todays() {
    let kernels: BTreeSet<&str> = ALL.iter().map(|signature| signature.name).collect();
    let mut expected = "```text\n".to_owned();
    for folder in folders() {
        tree(&folder, 0, &kernels, &mut expected);
    }
    expected += "```\n";
    let path = root().join("docs/tree.md");
    let mut text = read(&path);
    let place = section(&path, &text, "tree");
    if std::env::var_os("DQO_WRITE_DOCS").is_some() {
        text.replace_range(place, &expected);
        std::fs::write(&path, text).unwrap();
        return;
    }
    assert!(
        text[place] == expected,
        "docs/tree.md is not today's tree: DQO_WRITE_DOCS=1 cargo test the_tree_is writes it"
    );
}

#[test]
fn the_table_has_every_kernel_with_its_formula() {
    let path = root().join("docs/kernels.md");
    let text = read(&path);
    let table = &text[section(&path, &text, "kernels")];
    for signature in ALL {
        let begin = format!("| `{}` | {} |", signature.name, signature.formula().replace('|', "\\|"));
        assert!(table.contains(&begin), "docs/kernels.md: `dqo-wgpu bench --markdown` has another row: {begin}");
    }
    let known: BTreeSet<&str> = ALL.iter().map(|signature| signature.name).chain(["serial_return"]).collect();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let kernel = row.split('`').nth(1).unwrap();
        assert!(known.contains(kernel), "docs/kernels.md: there is no kernel {kernel}; tools/docs writes the table");
    }
}

/// Every `dqo-wgpu` command in a document's shell blocks, as words; a line that ends in `\` goes on, a comment does not count.
fn commands(text: &str) -> Vec<Vec<String>> {
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines = blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>());
    let words = |line: String| -> Vec<String> {
        line.split_whitespace().take_while(|word| *word != "#").map(str::to_owned).collect()
    };
    let words = lines.map(words);
    words.filter(|words| words.first().is_some_and(|word| word.ends_with("dqo-wgpu"))).collect()
}

#[test]
fn every_command_parses() {
    let commands: BTreeSet<Vec<String>> = documents().iter().flat_map(|path| commands(&read(path))).collect();
    assert!(commands.len() >= 10, "{commands:?}");
    for words in commands {
        // An option that does not exist is wrong usage; --help after it ends the command before it does anything.
        let output = dqo().args(&words[1..]).arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let output = dqo().args(&words[1..]).arg("--no-such-option").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("'--no-such-option'"), "{words:?}: {error}");
    }
}

/// An option that a method does not use is refused after the command is parsed: a plan of the same run refuses it too.
#[test]
fn the_options_of_every_run_are_its_methods() {
    let commands: BTreeSet<Vec<String>> = documents().iter().flat_map(|path| commands(&read(path))).collect();
    let runs: Vec<&Vec<String>> =
        commands.iter().filter(|words| ["train", "plan"].contains(&words[1].as_str())).collect();
    assert!(runs.len() >= 3, "{runs:?}");
    for words in runs {
        let mut plan = dqo();
        plan.args(["plan", "--device", "cpu", "--model"]).arg(golden("models/qwen2"));
        let mut rest = words[2..].iter();
        while let Some(word) = rest.next() {
            // What is not there is not asked for: the model of the document, its rows, its result.
            if ["--model", "--data", "--columns", "--output-dir"].contains(&word.as_str()) {
                rest.next();
            } else {
                plan.arg(word);
            }
        }
        let output = plan.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_option_of_training_is_told() {
    let output = dqo().args(["train", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let methods = read(&root().join("docs/methods.md"));
    let option = Regex::new(r"(?m)^ +(?:-\w, )?(--[a-z][a-z0-9-]+)").unwrap();
    let options: BTreeSet<&str> = option.captures_iter(&help).map(|found| found.get(1).unwrap().as_str()).collect();
    assert!(options.len() > 40, "{options:?}");
    for option in options.into_iter().filter(|option| *option != "--help") {
        let told = [format!("`{option}`"), format!("`{option} ")].iter().any(|form| methods.contains(form.as_str()));
        assert!(told, "docs/methods.md does not tell of {option}");
    }
}

/// A document without its blocks and spans of code, in which nothing is a link or a heading.
fn prose(text: &str) -> String {
    let blocks = Regex::new(r"(?ms)^```.*?^```").unwrap();
    let spans = Regex::new(r"`[^`\n]*`").unwrap();
    spans.replace_all(&blocks.replace_all(text, ""), "").into_owned()
}

/// The anchors that GitHub makes of a document's headings: in lower case, without punctuation, hyphens for spaces, and
/// numbered where two are the same.
fn anchors(text: &str) -> BTreeSet<String> {
    let blocks = Regex::new(r"(?ms)^```.*?^```").unwrap();
    let text = blocks.replace_all(text, "");
    let mut seen = BTreeMap::new();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let headings = headings.filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    let anchor = |heading: &str| {
        let kept = heading.trim().to_lowercase();
        let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c)).collect();
        let anchor = kept.replace(' ', "-");
        let count = seen.entry(anchor.clone()).and_modify(|count| *count += 1).or_insert(0);
        if *count == 0 { anchor } else { format!("{anchor}-{count}") }
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r#"\]\(([^)\s]+)\)|(?:src|href)="([^"]+)""#).unwrap();
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let prose = prose(&text);
        for found in link.captures_iter(&prose) {
            let target = found.get(1).or(found.get(2)).unwrap().as_str();
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            let path = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(path.exists(), "{}: {target}: there is no such file", document.display());
            if let Some(anchor) = anchor {
                let known = anchors(&read(&path));
                assert!(known.contains(anchor), "{}: {target}: the anchors there are {known:?}", document.display());
            }
            count += 1;
        }
    }
    assert!(count >= 20, "{count} links");
}

#[test]
fn the_table_of_reports_has_the_columns_that_the_tool_writes() {
    let (page, tool) = (read(&root().join("docs/gpus.md")), read(&root().join("tools/gpu-report")));
    let head = page.lines().find(|line| line.starts_with("| GPU |")).unwrap();
    let columns: Vec<&str> = head.trim_matches('|').split('|').map(str::trim).collect();
    let list = tool.split("COLUMNS = [").nth(1).unwrap().split(']').next().unwrap();
    let of_tool: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert_eq!(columns, of_tool);
}

#[test]
fn the_index_has_every_document() {
    let index = read(&root().join("docs/README.md"));
    for path in entries(&root().join("docs")).iter().filter(|path| path.is_file() && name(path) != "README.md") {
        assert!(index.contains(&format!("]({})", name(path))), "docs/README.md has no link to {}", name(path));
    }
}

#[test]
fn the_readme_is_read_in_three_minutes() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= 220, "README.md has {lines} lines, more than 220: what is more goes to docs/");
}

/// What cargo-binstall asks for is what a release has.
#[test]
fn binstall_asks_for_the_archives_of_tools_package() {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().unwrap();
    let binstall = &manifest["package"]["metadata"]["binstall"];
    let text = |key: &str| binstall[key].as_str().unwrap();
    let shell = |pattern: &str| {
        [("{ name }", "dqo-wgpu"), ("{ version }", "$version"), ("{ target }", "$target")]
            .iter()
            .fold(pattern.to_owned(), |text, (binstalls, ours)| text.replace(binstalls, ours))
    };
    let package = read(&root().join("tools/package"));
    let name = package.lines().find_map(|line| line.strip_prefix("name=")).unwrap();
    assert_eq!(shell(text("pkg-url")), format!("{{ repo }}/releases/download/v$version/{name}{{ archive-suffix }}"));
    assert_eq!(shell(text("bin-dir")), format!("{name}/{{ bin }}{{ binary-ext }}"));
    assert!(text("pkg-fmt") == "tgz" && package.contains("archive=$name.tar.gz"));
}
