//! How fast a GPU is, as far as its work is cut by it.

/// What a GPU's kernels do in a second. Work is cut into dispatches and submissions by it, which changes no result: a
/// dispatch that takes seconds is ended by Windows, and one that takes a tenth stops a desktop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Floating-point operations of matrix products; a fused multiply-add is two.
    pub flops: f64,
    /// Bytes of memory, read and written.
    pub bytes: f64,
}

impl Rates {
    /// What any GPU is taken to do: work for one ten times as slow is still short enough for Windows.
    pub const LEAST: Self = Self { flops: 1e11, bytes: 1e10 };

    /// What no GPU is taken to exceed, so that a clock that is wrong does not leave work uncut.
    pub const MOST: Self = Self { flops: 5e13, bytes: 2e12 };

    /// The same, between [`Rates::LEAST`] and [`Rates::MOST`].
    pub fn clamped(self) -> Self {
        let Self { flops, bytes } = self;
        Self {
            flops: flops.clamp(Self::LEAST.flops, Self::MOST.flops),
            bytes: bytes.clamp(Self::LEAST.bytes, Self::MOST.bytes),
        }
    }
}

impl Default for Rates {
    /// Before anything is measured.
    fn default() -> Self {
        Self::LEAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_rates_are_not_believed() {
        let clamped = |flops, bytes| Rates { flops, bytes }.clamped();
        assert_eq!(clamped(0.0, 1e9), Rates::LEAST);
        assert_eq!(clamped(f64::INFINITY, 1e30), Rates::MOST);
        assert_eq!(clamped(2e13, 8e11), Rates { flops: 2e13, bytes: 8e11 });
    }
}
