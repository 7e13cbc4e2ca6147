//! Names beside a file or a directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What is being made of a file or a directory, and what was there before: names that nobody else gives, so that what has
/// them is ours to remove.
pub(super) const NEW: &str = ".dqo-new";
pub(super) const OLD: &str = ".dqo-old";

/// `.NAME` and an ending, in the directory of `path`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}

/// The name of which a directory's entry is what [`write_dir`](super::write_dir) was making or replacing.
pub fn unfinished(entry: &str) -> Option<&str> {
    let name = entry.strip_prefix('.')?;
    name.strip_suffix(NEW).or_else(|| name.strip_suffix(OLD))
}

/// `path` with `suffix` at the end of its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether a model is a GGUF file, not a directory: by its name.
pub fn is_gguf(model: &Path) -> bool {
    model.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}
