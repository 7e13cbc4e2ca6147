//! Text of rows: files, or standard input.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

/// The name of standard input and standard output; a file of this name is `./-`.
const STREAM: &str = "-";

/// Bytes of a line at most: no row that a model could take is longer.
const MAX_LINE: usize = 32 << 20;

/// What standard input had: it can be read once, and several look at it.
static STDIN: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// Whether a path means standard input or standard output.
pub fn is_stream(path: &Path) -> bool {
    path.as_os_str() == STREAM
}

/// The bytes of a file, or of standard input.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    if !is_stream(path) {
        return fs::read(path).with_context(|| format!("{}: cannot be read", path.display()));
    }
    // Nothing that is held there is left half-written by a panic.
    let mut known = STDIN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if known.is_none() {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("standard input: cannot be read")?;
        *known = Some(bytes);
    }
    Ok(known.clone().unwrap_or_default())
}

/// The lines of a file, or of standard input where the path is `-`.
///
/// # Errors
/// Where it cannot be read; names the line that is not UTF-8, is too long, or begins with a byte order mark.
pub fn read_lines(path: &Path) -> Result<String> {
    let bytes = read_bytes(path)?;
    let place = |line: usize| format!("{}:{line}", path.display());
    ensure!(
        !bytes.starts_with(b"\xef\xbb\xbf"),
        "{}: begins with a byte order mark; write the file as UTF-8 without one",
        place(1)
    );
    if let Some((index, line)) = bytes.split(|byte| *byte == b'\n').enumerate().find(|(_, line)| line.len() > MAX_LINE)
    {
        bail!("{}: has {} bytes; a row has at most {MAX_LINE}", place(index + 1), line.len());
    }
    String::from_utf8(bytes).map_err(|error| {
        let end = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..end];
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        anyhow::anyhow!("{}: is not UTF-8 from its byte {} on; write the file as UTF-8", place(line), end - start + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_lines(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "rows"))
        };
        assert_eq!(read("a\nö\n".as_bytes()).unwrap(), "a\nö\n");
        let mark = "rows:1: begins with a byte order mark; write the file as UTF-8 without one";
        assert_eq!(read(b"\xef\xbb\xbf{}\n").unwrap_err(), mark);
        let invalid = "rows:2: is not UTF-8 from its byte 3 on; write the file as UTF-8";
        assert_eq!(read(b"{}\nab\xff\n{}\n").unwrap_err(), invalid);
        let long = [b"{}\n".to_vec(), vec![b'x'; MAX_LINE + 1], b"\n".to_vec()].concat();
        assert_eq!(
            read(&long).unwrap_err(),
            format!("rows:2: has {} bytes; a row has at most {MAX_LINE}", MAX_LINE + 1)
        );
    }
}
