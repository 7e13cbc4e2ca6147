//! Files that are one process's.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};

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

#[cfg(test)]
mod tests {
    use super::*;

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
