//! What is in a file, in short.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::stream::{is_stream, read_bytes};

/// A file's size and SHA-256, as `sha256sum` prints it.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct FileDigest {
    pub size: u64,
    pub sha256: String,
}

/// Reads the whole of a file.
///
/// # Errors
/// Where it cannot be read.
pub fn digest_of(path: &Path) -> Result<FileDigest> {
    if is_stream(path) {
        let bytes = read_bytes(path)?;
        return Ok(FileDigest { size: bytes.len() as u64, sha256: hex(&Sha256::digest(&bytes)) });
    }
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
    Ok(FileDigest { size, sha256: hex(&hash.finalize()) })
}

/// A digest as text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
