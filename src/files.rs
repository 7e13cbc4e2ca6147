//! Files and directories that are there whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "manifest.json";

/// What a directory holds, written last: where it is there and right, everything is.
#[derive(Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Entry {
    size: u64,
    sha256: String,
}

/// Makes `dir` by filling `dir.tmp`, syncing every file, adding the manifest, and renaming. What was there under
/// either name is replaced. Where anything fails, `dir` is as it was and `dir.tmp` is gone.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write_dir(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = with_suffix(dir, ".tmp");
    remove_dir(&temporary)?;
    let written = fill_and_seal(&temporary, fill).and_then(|()| {
        // What was there stays until the new one has its name.
        let old = with_suffix(dir, ".old");
        remove_dir(&old)?;
        let in_place = || format!("{}: cannot be put in place", dir.display());
        if dir.exists() {
            fs::rename(dir, &old).with_context(in_place)?;
        }
        fs::rename(&temporary, dir).with_context(in_place)?;
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
        files.insert(name, entry(&path)?);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("{}: cannot be synced", path.display()))?;
    }
    let manifest = serde_json::to_string_pretty(&Manifest { files })?;
    write_file(&dir.join(MANIFEST), manifest.as_bytes())?;
    sync_dirs(dir)
}

/// Checks a directory that [`write_dir`] made against its manifest.
///
/// # Errors
/// Names the file that is missing, has another size, or other contents.
pub fn verify_dir(dir: &Path) -> Result<()> {
    let path = dir.join(MANIFEST);
    let text = fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let manifest: Manifest = serde_json::from_str(&text).with_context(|| format!("{}: is damaged", path.display()))?;
    for (name, expected) in &manifest.files {
        let path = dir.join(name);
        ensure!(entry(&path)? == *expected, "{}: is not as {MANIFEST} says", path.display());
    }
    Ok(())
}

/// Replaces a file by way of `path.tmp` and a rename.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let temporary = with_suffix(path, ".tmp");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))?;
    sync_parent(path)
}

/// `path` with `suffix` at the end of its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", dir.display()))
        }
        _ => Ok(()),
    }
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

fn entry(path: &Path) -> Result<Entry> {
    let context = || format!("{}: cannot be read", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        match file.read(&mut buffer).with_context(context)? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Entry { size, sha256 })
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

fn sync_parent(path: &Path) -> Result<()> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
}

/// Windows has no way to sync a directory, and needs none.
fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(dir).and_then(|file| file.sync_all()).with_context(|| format!("{}: cannot be synced", dir.display()))
}

#[cfg(test)]
mod tests {
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
        verify_dir(&dir).unwrap();

        let failed = write_dir(&dir, |dir| {
            fs::write(dir.join("b"), "2")?;
            anyhow::bail!("no room")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no room");
        verify_dir(&dir).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);

        fs::write(dir.join("inner/a"), "2").unwrap();
        let path = dir.join("inner/a");
        let message = format!("{}: is not as manifest.json says", path.display());
        assert_eq!(verify_dir(&dir).unwrap_err().to_string(), message);
    }
}
