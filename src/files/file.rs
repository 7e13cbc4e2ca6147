//! Files that are there as they were or as they are to be.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;

use super::names::{NEW, beside};
use super::stream::is_stream;
use super::system::sync_parent;

/// Replaces a file by way of one beside it and a rename: it is there as it was or as it is to be. What a link points to is
/// replaced and the link stays; a device or a pipe is written to, and `-` is standard output.
///
/// # Errors
/// Names the file that cannot be written; nothing is beside it then.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    if is_stream(path) {
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(contents).and_then(|()| stdout.flush());
        // Whoever reads may have seen enough.
        let closed = |error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe;
        return written
            .or_else(|error| if closed(&error) { Ok(()) } else { Err(error) })
            .context("standard output: cannot be written");
    }
    let context = || format!("{}: cannot be written", path.display());
    write_file_with(path, |file| file.write_all(contents).with_context(context))
}

/// As [`write_file`], of contents that are written piece by piece.
///
/// # Errors
/// Names the file that cannot be written, or what `fill` says; nothing is beside it then.
pub fn write_file_with(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let context = || format!("{}: cannot be written", path.display());
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return fill(&mut File::options().write(true).open(path).with_context(context)?);
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink());
    let path = if is_link { path.canonicalize().with_context(context)? } else { path.to_owned() };
    let temporary = beside(&path, NEW);
    let write = || {
        let mut file = File::create(&temporary).with_context(context)?;
        fill(&mut file)?;
        file.sync_all().and_then(|()| fs::rename(&temporary, &path)).with_context(context)
    };
    let written = write();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_parent(&path))
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

/// Maps a file of weights, as [`open_file`] opens them.
///
/// # Errors
/// Names the file that cannot be read.
pub fn map_file(path: &Path) -> Result<Mmap> {
    let file = open_file(path)?;
    // SAFETY: the map is read as bytes and nothing else. A file that another program truncates meanwhile ends the
    // process with a signal, as with any reader of memory-mapped weights; nothing is written through it.
    unsafe { Mmap::map(&file) }.with_context(|| format!("{}: cannot be mapped", path.display()))
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
    let place = if is_stream(output) { None } else { output.canonicalize().ok() };
    let Some(place) = place else { return Ok(()) };
    let is_input = |input: &Path| !is_stream(input) && input.canonicalize().is_ok_and(|input| place.starts_with(input));
    ensure!(
        !inputs.iter().any(|input| is_input(input.as_ref())),
        "{}: is read here and would be overwritten; choose another --output",
        output.display()
    );
    Ok(())
}
