//! How an adapter is opened.

use super::traits::{MatrixUnits, Traits};

/// What [`Gpu::open_with`](super::Gpu::open_with) may be told; [`Settings::of`] has what suits the adapter.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What kernels choose their variants by: how tests reach those that this adapter would not choose.
    pub traits: Traits,
    /// Whether every shader checks its bounds, its loops and its divisors. Where it is off, only those kernels check their
    /// bounds that read or write where a tensor's values say; the calls have checked all other indices.
    pub checks: bool,
}

impl Settings {
    /// The adapter's own traits but its matrix units, and no more checks than are needed.
    pub fn of(adapter: &wgpu::Adapter) -> Self {
        let traits = Traits { matrices: None, ..Traits::of(adapter) };
        Self { traits, checks: false }
    }

    /// As [`Settings::of`], with the adapter's matrix units where it has them: what wgpu calls experimental is enabled for them
    /// alone.
    pub fn with_matrices(adapter: &wgpu::Adapter) -> Self {
        Self { traits: Traits::of(adapter), checks: false }
    }

    /// As [`Settings::with_matrices`] of each form that the adapter's units may have: which one they do, trying shows.
    pub fn all_with_matrices(adapter: &wgpu::Adapter) -> impl Iterator<Item = Self> {
        let plain = Self::of(adapter);
        let with = move |units| Self { traits: Traits { matrices: Some(units), ..plain.traits }, ..plain };
        MatrixUnits::all_of(adapter).into_iter().map(with)
    }
}
