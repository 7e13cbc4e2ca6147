//! Files and directories that are there whole or not at all, are one process's, and are nobody else's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
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
        files.insert(name, entry(&path)?);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("{}: cannot be synced", path.display()))?;
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
    compare_with_manifest(dir, |path, expected| Ok(entry(path)? == *expected))
}

/// As [`verify_dir`], by the files' sizes alone.
///
/// # Errors
/// As [`verify_dir`].
pub fn glance_at_dir(dir: &Path) -> Result<Condition> {
    compare_with_manifest(dir, |path, expected| {
        let metadata = fs::metadata(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        Ok(metadata.len() == expected.size)
    })
}

fn compare_with_manifest(dir: &Path, is_as: impl Fn(&Path, &Entry) -> Result<bool>) -> Result<Condition> {
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
        if fs::metadata(&path).is_err_and(|error| is_missing(&error)) {
            return damaged(&path, "is missing");
        }
        if !is_as(&path, expected)? {
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

/// Replaces a file by way of one beside it and a rename: it is there as it was or as it is to be. What a link points to is
/// replaced and the link stays; a device or a pipe is written to.
///
/// # Errors
/// Names the file that cannot be written; nothing is beside it then.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let context = || format!("{}: cannot be written", path.display());
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return File::options()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(contents))
            .with_context(context);
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink());
    let path = if is_link { path.canonicalize().with_context(context)? } else { path.to_owned() };
    let temporary = beside(&path, NEW);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    let written = write().with_context(context);
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_parent(&path))
}

/// What is being made of a file or a directory, and what was there before: names that nobody else gives, so that what has
/// them is ours to remove.
const NEW: &str = ".dqo-new";
const OLD: &str = ".dqo-old";

/// `.NAME` and an ending, in the directory of `path`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}

/// The name of which a directory's entry is what [`write_dir`] was making or replacing.
pub fn unfinished(entry: &str) -> Option<&str> {
    let name = entry.strip_prefix('.')?;
    name.strip_suffix(NEW).or_else(|| name.strip_suffix(OLD))
}

/// Opens a file of a model or an adapter: one that can be read to its end. A pipe or a device has none, and may never answer.
///
/// # Errors
/// Names the file that cannot be read or is not a regular one.
pub fn open_file(path: &Path) -> Result<File> {
    let context = || format!("{}: cannot be read", path.display());
    ensure!(fs::metadata(path).with_context(context)?.is_file(), "{}: is not a regular file", path.display());
    File::open(path).with_context(context)
}

/// The most bytes of a description: 16 times the largest tokenizer that is known.
const MAX_DESCRIPTION: u64 = 512 << 20;

/// Reads what describes a model or an adapter: a file as [`open_file`] opens them, of a bounded size.
///
/// # Errors
/// Names the file that cannot be read, is no text or is too large.
pub fn read_description(path: &Path) -> Result<String> {
    let file = open_file(path)?;
    let mut text = String::new();
    let read = file.take(MAX_DESCRIPTION + 1).read_to_string(&mut text);
    read.with_context(|| format!("{}: cannot be read", path.display()))?;
    ensure!(text.len() as u64 <= MAX_DESCRIPTION, "{}: is larger than {MAX_DESCRIPTION} bytes", path.display());
    Ok(text)
}

/// Refuses an output that is one of the inputs, or is there already in a directory that is one.
///
/// # Errors
/// Names the output.
pub fn spare(inputs: &[impl AsRef<Path>], output: &Path) -> Result<()> {
    // Where nothing is there, nothing is overwritten.
    let Ok(place) = output.canonicalize() else { return Ok(()) };
    let is_input = |input: &Path| input.canonicalize().is_ok_and(|input| place.starts_with(input));
    ensure!(
        !inputs.iter().any(|input| is_input(input.as_ref())),
        "{}: is read here and would be overwritten; choose another --output",
        output.display()
    );
    Ok(())
}

/// `path` with `suffix` at the end of its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
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
    match path.parent() {
        // A bare name is one in the working directory.
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// What a command makes before its first result. Where it fails before, all of it is taken away again, so that the same
/// command can be given once more.
#[derive(Default)]
pub struct Fresh {
    paths: Vec<PathBuf>,
}

impl Fresh {
    /// Of these files and directories; a directory goes after what is in it, and stays where there is more.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// There is a result: all stays.
    pub fn keep(&mut self) {
        self.paths.clear();
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        for path in &self.paths {
            // The command's own error is the one to tell.
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

/// Holds a file for this process alone until it is dropped; a crash frees it too.
///
/// # Errors
/// Where another process holds it.
pub fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!("{}: another process writes it; let it end, or stop it", path.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{}: cannot be locked", path.display())),
    }
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
    fn a_file_has_one_writer() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("rows");
        let [first, second] = [(), ()].map(|()| File::options().create(true).append(true).open(&path).unwrap());
        lock(&first, &path).unwrap();
        assert!(lock(&second, &path).unwrap_err().to_string().contains("another process writes it"));
        drop(first);
        lock(&second, &path).unwrap();
    }
}
