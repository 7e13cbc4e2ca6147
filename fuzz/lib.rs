//! What reads files of others, for libFuzzer; `tools/fuzz` runs it.

mod targets;

#[cfg(feature = "libfuzzer")]
pub use libfuzzer_sys;
pub use targets::{TARGETS, Target};

/// A target by its name, and a directory for it that has all but the file.
pub struct Ground {
    target: &'static Target,
    dir: tempfile::TempDir,
}

impl Ground {
    /// The target of this name, on its first seed.
    pub fn new(name: &str) -> Self {
        let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
        let root = tempfile::tempdir().expect("a temporary directory");
        target.fill(&root.path().join("case"), 0);
        Self { target, dir: root }
    }

    /// Reads the file as it would be with these bytes.
    pub fn read(&self, bytes: &[u8]) {
        let dir = self.dir.path().join("case");
        std::fs::write(dir.join(self.target.file), bytes).expect("a temporary file");
        (self.target.read)(&dir);
    }
}

/// The whole of a target's program.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        static GROUND: std::sync::LazyLock<$crate::Ground> = std::sync::LazyLock::new(|| $crate::Ground::new($name));
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| GROUND.read(bytes));
    };
}
