//! Files, or standard input and output.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};

/// The name of standard input and standard output; a file of this name is `./-`.
const STREAM: &str = "-";

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
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
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
