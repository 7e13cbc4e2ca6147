//! Directories that are there whole or not at all, each with a manifest of what it holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::digest::{FileDigest, digest_of};
use super::file::write_file;
use super::names::{NEW, OLD, beside};
use super::system::{sync_dir, sync_file, sync_parent};

const MANIFEST: &str = "manifest.json";

/// What a directory holds, written last: where it is there and right, everything is.
#[derive(Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, FileDigest>,
}

/// Makes `dir` by filling a directory beside it, syncing every file, adding the manifest, and renaming; what was there is
/// replaced. Where anything fails, `dir` is as it was and nothing is beside it; where the process ends between the two
/// renames, [`recover_dir`] puts `dir` back.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write_dir(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (temporary, old) = (beside(dir, NEW), beside(dir, OLD));
    remove_dir(&temporary)?;
    let written = fill_and_seal(&temporary, fill).and_then(|()| {
        // What was there stays until the new one has its name.
        remove_dir(&old)?;
        let in_place = || format!("{}: cannot be put in place", dir.display());
        if dir.exists() {
            fs::rename(dir, &old).with_context(in_place)?;
        }
        if let Err(error) = fs::rename(&temporary, dir) {
            // What was there is put back; where that fails too, `recover_dir` finds it.
            let _ = fs::rename(&old, dir);
            return Err(error).with_context(in_place);
        }
        sync_parent(dir)?;
        remove_dir(&old)
    });
    if written.is_err() {
        // The first error is the one to tell; a directory that cannot be removed is found again by the next run.
        let _ = fs::remove_dir_all(&temporary);
    }
    written
}

fn fill_and_seal(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    fill(dir)?;
    let mut files = BTreeMap::new();
    for path in files_below(dir)? {
        let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        files.insert(name, digest_of(&path)?);
        sync_file(&path)?;
    }
    let manifest = serde_json::to_string_pretty(&Manifest { files })?;
    write_file(&dir.join(MANIFEST), manifest.as_bytes())?;
    sync_dirs(dir)
}

/// Undoes what a [`write_dir`] that was cut off left: where `dir` is gone and the one before is there, that has its name
/// again; else what is left over is removed.
///
/// # Errors
/// Names what cannot be renamed or removed.
pub fn recover_dir(dir: &Path) -> Result<()> {
    remove_dir(&beside(dir, NEW))?;
    let old = beside(dir, OLD);
    if dir.exists() {
        return remove_dir(&old);
    }
    if old.exists() {
        fs::rename(&old, dir).with_context(|| format!("{}: cannot be put in place", dir.display()))?;
        sync_parent(dir)?;
    }
    Ok(())
}

/// What a directory that [`write_dir`] made is like.
#[derive(Debug, PartialEq, Eq)]
pub enum Condition {
    /// As its manifest says.
    Whole,
    /// Not so: why.
    Damaged(String),
}

/// Reads a directory that [`write_dir`] made, and holds it against its manifest.
///
/// # Errors
/// Where a file that is there cannot be read: it may be whole.
pub fn verify_dir(dir: &Path) -> Result<Condition> {
    compare_with_manifest(dir, |path, expected| Ok(digest_of(path)? == *expected))
}

/// As [`verify_dir`], by the files' sizes alone.
///
/// # Errors
/// As [`verify_dir`].
pub fn glance_at_dir(dir: &Path) -> Result<Condition> {
    compare_with_manifest(dir, |_, _| Ok(true))
}

fn compare_with_manifest(dir: &Path, is_same: impl Fn(&Path, &FileDigest) -> Result<bool>) -> Result<Condition> {
    let path = dir.join(MANIFEST);
    let damaged = |path: &Path, how: &str| Ok(Condition::Damaged(format!("{}: {how}", path.display())));
    let text = match fs::read_to_string(&path) {
        Err(error) if is_missing(&error) => return damaged(&path, "is missing"),
        Err(error) if error.kind() == ErrorKind::InvalidData => return damaged(&path, "is damaged"),
        text => text.with_context(|| format!("{}: cannot be read", path.display()))?,
    };
    let Ok(manifest) = serde_json::from_str::<Manifest>(&text) else { return damaged(&path, "is damaged") };
    for (name, expected) in &manifest.files {
        let path = dir.join(name);
        // What is read is a file below the directory, and no longer than it was: no pipe, no device.
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            return damaged(&path, &format!("is named in {MANIFEST}, and is not below it"));
        }
        let metadata = match fs::metadata(&path) {
            Err(error) if is_missing(&error) => return damaged(&path, "is missing"),
            metadata => metadata.with_context(|| format!("{}: cannot be read", path.display()))?,
        };
        if !metadata.is_file() || metadata.len() != expected.size || !is_same(&path, expected)? {
            return damaged(&path, &format!("is not as {MANIFEST} says"));
        }
    }
    Ok(Condition::Whole)
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Makes a directory and those above it, so that its name lasts.
///
/// # Errors
/// Names it where it cannot be made.
pub fn make_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    sync_parent(dir)
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory that [`write_dir`] made: what a process that was cut off left of it is found by [`recover_dir`].
///
/// # Errors
/// Names it where it cannot be removed.
pub fn discard_dir(dir: &Path) -> Result<()> {
    let unfinished = beside(dir, NEW);
    remove_dir(&unfinished)?;
    fs::rename(dir, &unfinished).with_context(|| format!("{}: cannot be removed", dir.display()))?;
    remove_dir(&unfinished)
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("{}: cannot be listed", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// Syncs a directory and those below it, so that the names in them last.
fn sync_dirs(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_dirs(&path)?;
        }
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::super::names::unfinished;
    use super::*;

    #[test]
    fn a_directory_is_there_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("made");
        write_dir(&dir, |dir| {
            fs::create_dir(dir.join("inner"))?;
            fs::write(dir.join("inner/a"), "1")?;
            Ok(())
        })
        .unwrap();
        assert_eq!(verify_dir(&dir).unwrap(), Condition::Whole);

        let failed = write_dir(&dir, |dir| {
            fs::write(dir.join("b"), "2")?;
            anyhow::bail!("no room")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no room");
        assert_eq!(verify_dir(&dir).unwrap(), Condition::Whole);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);

        fs::write(dir.join("inner/a"), "2").unwrap();
        let path = dir.join("inner/a");
        let message = format!("{}: is not as manifest.json says", path.display());
        assert_eq!(verify_dir(&dir).unwrap(), Condition::Damaged(message));
        assert_eq!(glance_at_dir(&dir).unwrap(), Condition::Whole);
        fs::remove_file(&path).unwrap();
        assert_eq!(glance_at_dir(&dir).unwrap(), Condition::Damaged(format!("{}: is missing", path.display())));
    }

    /// Cut off at each point between the names, the directory is there again, as it was or as it was to be.
    #[test]
    fn a_directory_that_was_being_replaced_is_put_back() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("made");
        let (old, temporary) = (beside(&dir, OLD), beside(&dir, NEW));
        let unfinished = [&old, &temporary].map(|path| unfinished(path.file_name().unwrap().to_str().unwrap()));
        assert_eq!(unfinished, [Some("made"); 2]);
        let make = |dir: &Path| write_dir(dir, |dir| Ok(fs::write(dir.join("a"), "1")?)).unwrap();
        for present in [vec![&dir, &temporary], vec![&old, &temporary], vec![&old, &dir], vec![&dir], vec![&old]] {
            present.iter().for_each(|dir| make(dir));
            recover_dir(&dir).unwrap();
            assert_eq!(verify_dir(&dir).unwrap(), Condition::Whole);
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "of {present:?}");
            fs::remove_dir_all(&dir).unwrap();
        }
        recover_dir(&dir).unwrap();
        assert!(!dir.exists());
    }

    #[test]
    fn what_is_left_of_a_discarded_directory_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("made");
        write_dir(&dir, |dir| Ok(fs::write(dir.join("a"), "1")?)).unwrap();
        fs::rename(&dir, beside(&dir, NEW)).unwrap();
        recover_dir(&dir).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        write_dir(&dir, |dir| Ok(fs::write(dir.join("a"), "1")?)).unwrap();
        discard_dir(&dir).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
