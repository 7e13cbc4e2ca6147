//! Files that are one process's.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Longer than [`is_held`] holds a lock.
const A_LOOK: Duration = Duration::from_millis(200);

/// Opens a file, made where there is none, to be read and written by this process alone until it is dropped; a crash frees it
/// too. `held` is what it stands for.
///
/// # Errors
/// Where it cannot be opened, or another process holds it.
pub fn open_locked(path: &Path, held: &Path) -> Result<File> {
    let start = Instant::now();
    loop {
        // Not to append: Windows cuts no file that is open so.
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let file = file.with_context(|| format!("{}: cannot be written", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            // Who only looks (`is_held`) is gone in a moment.
            Err(TryLockError::WouldBlock) if start.elapsed() < A_LOOK => {
                sleep(A_LOOK / 10);
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                bail!("{}: another process writes it; let it end, or stop it", held.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{}: cannot be locked", path.display()));
            }
        }
        // Who held it may have removed or replaced it meanwhile: the lock of a file without a name holds nobody off.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
}

/// Whether a process holds a file that [`open_locked`] opened. To see it, the lock is shared for a moment.
pub fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Whether an open file is the one that has this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(opened), Ok(named)) if id(&opened) == id(&named))
}

/// Windows gives the name of a file that is open to no other.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock on a file that lost its name while it was waited for would hold nobody off.
    #[cfg(unix)]
    #[test]
    fn a_locked_file_is_the_one_of_that_name() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("rows");
        let opened = File::create(&path).unwrap();
        assert!(is_at(&opened, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&opened, &path));
        std::fs::write(&path, "1").unwrap();
        assert!(!is_at(&opened, &path));
        assert!(is_at(&open_locked(&path, &path).unwrap(), &path));
    }

    #[test]
    fn a_file_has_one_writer() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("rows");
        let first = open_locked(&path, &path).unwrap();
        assert!(open_locked(&path, &path).unwrap_err().to_string().contains("another process writes it"));
        assert!(is_held(&path));
        drop(first);
        assert!(!is_held(&path) && !is_held(&root.path().join("none")));
        open_locked(&path, &path).unwrap();
    }
}
