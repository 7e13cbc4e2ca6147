//! Files, or standard input and output.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

/// The name of standard input and standard output; a file of this name is `./-`.
const STREAM: &str = "-";

/// The most bytes that are held of standard input. What is larger is a slip, or better kept.
const MOST_BYTES: u64 = 8 << 30;

/// What standard input had: it can be read once, and several look at it.
static STDIN: Mutex<Option<&'static [u8]>> = Mutex::new(None);

/// Whether a path means standard input or standard output.
pub fn is_stream(path: &Path) -> bool {
    path.as_os_str() == STREAM
}

/// What is read, as messages name it: a path, or standard input.
pub fn input_name(path: &Path) -> impl Display + '_ {
    if is_stream(path) { Cow::Borrowed("standard input") } else { path.to_string_lossy() }
}

/// What is written, as messages name it: a path, or standard output.
pub fn output_name(path: &Path) -> impl Display + '_ {
    if is_stream(path) { Cow::Borrowed("standard output") } else { path.to_string_lossy() }
}

/// The bytes of a file, or of standard input.
///
/// # Errors
/// Where it cannot be read; where standard input has more than is held.
pub fn read_bytes(path: &Path) -> Result<Cow<'static, [u8]>> {
    if !is_stream(path) {
        let bytes = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        return Ok(bytes.into());
    }
    // Nothing that is held there is left half-written by a panic.
    let mut known = STDIN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let bytes = match *known {
        Some(bytes) => bytes,
        // For as long as the process lives, as whoever looks at it again may come at any time.
        None => read_at_most(std::io::stdin().lock(), MOST_BYTES)?.leak(),
    };
    *known = Some(bytes);
    Ok(bytes.into())
}

fn read_at_most(input: impl Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(most + 1).read_to_end(&mut bytes).context("standard input: cannot be read")?;
    ensure!(
        bytes.len() as u64 <= most,
        "standard input: has more than {most} bytes; put them into a file and name that"
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_has_an_end() {
        assert_eq!(read_at_most(&b"1234"[..], 4).unwrap(), b"1234");
        let message = read_at_most(std::io::repeat(b'y'), 4).unwrap_err().to_string();
        assert_eq!(message, "standard input: has more than 4 bytes; put them into a file and name that");
    }
}
