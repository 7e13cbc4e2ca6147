//! What a command has made before its first result.

use std::fs;
use std::path::PathBuf;

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
