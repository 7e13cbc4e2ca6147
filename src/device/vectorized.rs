//! Loops with all that the processor has.

/// Computes a loop with all that the processor has. The loop has to stand in `work` itself, which is inlined.
#[inline]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
