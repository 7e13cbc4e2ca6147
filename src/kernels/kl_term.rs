//! A term of the estimate of a KL divergence.

use crate::device::Real;

/// The shader's half.
pub(super) const KL_TERM: &str = include_str!("../../shaders/shared/kl_term.wgsl");

/// As at this ratio above it.
pub(super) const MAX_KL_RATIO: f64 = 60.0;

/// `e^x - 1 - x` with `x = log p - log q` of a token that q has sampled: its mean is KL(q || p), as that of e^x is 1, and it is
/// never below 0 (Schulman's k3). By its series where the difference would cancel.
#[inline]
pub fn kl_term<T: Real>(x: T) -> T {
    if x.abs() < T::of(0.25) {
        let terms = [7.0, 6.0, 5.0, 4.0, 3.0];
        let tail = terms.iter().fold(T::one(), |tail, &n| T::one() + x / T::of(n) * tail);
        return T::of(0.5) * x * x * tail;
    }
    let held = x.min(T::of(MAX_KL_RATIO));
    held.exp() - T::one() - held
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean under q over all tokens is the divergence itself.
    #[test]
    fn the_mean_is_the_divergence() {
        let (q, p) = ([0.5, 0.3, 0.15, 0.05], [0.45, 0.33, 0.02, 0.2]);
        let of_pairs = |of: &dyn Fn(f64, f64) -> f64| q.iter().zip(p).map(|(&q, p)| q * of(q, p)).sum::<f64>();
        let (found, expected) = (of_pairs(&|q, p| kl_term((p / q).ln())), of_pairs(&|q, p| (q / p).ln()));
        // The series leaves out less than 2 x^6 / 8! of itself, which is 1.3e-8 at most.
        assert!((found - expected).abs() < 2e-8 * expected, "{found} {expected}");
    }

    #[test]
    fn it_is_never_negative_and_never_infinite() {
        for x in [0.0f32, 1e-20, -1e-20, 1e-4, -1e-4, 0.2499, -0.2499, 0.25, -0.25, 30.0, -500.0, 1e30, -1e30] {
            assert!(kl_term(x) >= 0.0 && kl_term(x).is_finite(), "{x}");
        }
        // Both sides of where the series ends.
        assert!((kl_term(0.249_999f64) - kl_term(0.250_001f64)).abs() < 1e-6);
    }
}
