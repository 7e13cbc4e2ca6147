//! What systems do differently: how what was written is made to last.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

/// Makes a file's contents last.
pub(super) fn sync_file(path: &Path) -> Result<()> {
    to_sync(path).and_then(|file| file.sync_all()).with_context(|| format!("{}: cannot be synced", path.display()))
}

/// Makes the name of a file or directory last.
pub(super) fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        // A bare name is one in the working directory.
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

#[cfg(not(windows))]
fn to_sync(path: &Path) -> std::io::Result<File> {
    File::open(path)
}

/// Windows syncs by a handle that may write alone.
#[cfg(windows)]
fn to_sync(path: &Path) -> std::io::Result<File> {
    File::options().write(true).open(path)
}

/// Makes the names in a directory last.
#[cfg(not(windows))]
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    sync_file(dir)
}

/// Windows has no way to sync a directory, and its file systems keep names in order by their journal.
#[cfg(windows)]
pub(super) fn sync_dir(_: &Path) -> Result<()> {
    Ok(())
}
