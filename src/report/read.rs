//! Files that a run read and that a page would show more of.

use std::fmt::{self, Display};
use std::fs;

use sha2::{Digest, Sha256};

use crate::files::hex;

/// Files above are not read for a page.
const LARGE: u64 = 256 << 20;

/// Why what a run read is not on its page.
pub enum Unread {
    /// The configuration names no file.
    Unnamed,
    /// It cannot be read, or has changed since.
    Gone { path: String, why: String },
}

impl Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unnamed => f.write_str("the configuration names no data"),
            Self::Gone { path, why } => write!(f, "{path}: {why}"),
        }
    }
}

/// The text of a file that a run read, if it still has this SHA-256; without one, as it is.
///
/// # Errors
/// Where it is gone, has changed, is no text, or is too large.
pub fn unchanged(path: &str, sha256: Option<&String>) -> Result<String, Unread> {
    let gone = |why: String| Unread::Gone { path: path.to_owned(), why };
    let metadata = fs::metadata(path).map_err(|error| gone(format!("cannot be read: {error}")))?;
    if !metadata.is_file() || metadata.len() > LARGE {
        return Err(gone("is no file of at most 256 MiB".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(|error| gone(format!("cannot be read: {error}")))?;
    match sha256 {
        Some(sha256) if *sha256 != hex(&Sha256::digest(&text)) => {
            Err(gone("has changed since the run read it".to_owned()))
        }
        _ => Ok(text),
    }
}
