//! The README is true: its tree is today's, its table has every kernel with its formula, its commands parse.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use dqo_wgpu::kernels::ALL;

use crate::command::dqo;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// Where the text between two marks of the README stands.
fn section(text: &str, name: &str) -> Range<usize> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let start = text.find(&begin).unwrap_or_else(|| panic!("README.md has no {begin}")) + begin.len();
    let length = text[start..].find(&end).unwrap_or_else(|| panic!("README.md has no {end}"));
    start..start + length
}

/// The first sentence that a file says of itself, as its language has it.
fn first_sentence(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
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

/// Files of a folder that are text, by name; folders first.
fn files(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().partition(|path| path.is_dir())
}

/// A folder's files, a line each; what is one of the kernels' five places is left to the table.
fn tree(folder: &Path, depth: usize, kernels: &BTreeSet<&str>, text: &mut String) {
    let (folders, files) = files(folder);
    for path in files {
        let (stem, name) = (path.file_stem().unwrap().to_str().unwrap(), path.file_name().unwrap().to_str().unwrap());
        let known = ["rs", "wgsl", "py", ""].contains(&path.extension().map_or("", |ext| ext.to_str().unwrap()));
        let place = ["src/kernels", "shaders", "benches", "kernels-tests"].iter().any(|place| folder.ends_with(place));
        if known && !(place && kernels.contains(stem)) && name != "mod.rs" && name != "lib.rs" {
            writeln!(
                text,
                "{:indent$}{name:width$}{}",
                "",
                first_sentence(&path),
                indent = 2 * depth,
                width = WIDTH - 2 * depth
            )
            .unwrap();
        }
    }
    for path in folders {
        let name = format!("{}/", path.file_name().unwrap().to_str().unwrap());
        if ["goldens/", "__pycache__/"].contains(&name.as_str()) && folder.ends_with("kernels-tests") {
            continue;
        }
        let about = if path.join("mod.rs").exists() { first_sentence(&path.join("mod.rs")) } else { String::new() };
        let line = format!("{:indent$}{name:width$}{about}", "", indent = 2 * depth, width = WIDTH - 2 * depth);
        writeln!(text, "{}", line.trim_end()).unwrap();
        tree(&path, depth + 1, kernels, text);
    }
}

#[test]
fn the_tree_is_todays() {
    let kernels: BTreeSet<&str> = ALL.iter().map(|signature| signature.name).collect();
    let mut expected = "```text\n".to_owned();
    for folder in ["src", "shaders", "benches", "examples", "kernels-tests", "tools"] {
        let main = root().join(folder).join(if folder == "src" { "lib.rs" } else { "mod.rs" });
        let about = match folder {
            "shaders" => "One .wgsl a kernel: see the table; what several include is in shared/".to_owned(),
            "kernels-tests" => first_sentence(&root().join("kernels-tests/main.rs")),
            "examples" => "Programs on the library".to_owned(),
            "tools" => "Set-up, demo and tests; what makes the goldens and compares with PyTorch".to_owned(),
            _ => first_sentence(&main),
        };
        writeln!(expected, "{:WIDTH$}{about}", format!("{folder}/")).unwrap();
        tree(&root().join(folder), 1, &kernels, &mut expected);
    }
    expected += "```\n";
    let text = readme();
    let place = section(&text, "tree");
    if std::env::var_os("DQO_WRITE_README").is_some() {
        let mut text = text;
        text.replace_range(place, &expected);
        std::fs::write(root().join("README.md"), text).unwrap();
        return;
    }
    assert!(
        text[place] == expected,
        "README.md's tree is not today's: DQO_WRITE_README=1 cargo test the_tree_is writes it"
    );
}

#[test]
fn the_table_has_every_kernel_with_its_formula() {
    let text = readme();
    let table = &text[section(&text, "kernels")];
    for signature in ALL {
        let begin = format!("| `{}` | {} |", signature.name, signature.formula().replace('|', "\\|"));
        assert!(table.contains(&begin), "README.md: `dqo-wgpu bench --markdown` has another row: {begin}");
    }
}

/// Every `dqo-wgpu` command in the README's shell blocks, as words; a line that ends in `\` goes on.
fn commands(text: &str) -> Vec<Vec<String>> {
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines = blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>());
    let words = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.filter(|words| words.first().is_some_and(|word| word.ends_with("dqo-wgpu"))).collect()
}

#[test]
fn every_command_parses() {
    let commands = commands(&readme());
    assert!(commands.len() >= 3, "{commands:?}");
    for words in commands {
        // An option that does not exist is wrong usage; --help behind it ends the command before it does anything.
        let output = dqo().args(&words[1..]).arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let output = dqo().args(&words[1..]).arg("--no-such-option").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("'--no-such-option'"), "{words:?}: {error}");
    }
}
