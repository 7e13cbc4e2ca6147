//! How far a share that was counted may be from the true one.

/// Of the normal distribution: 95 % lie within so many standard deviations.
const Z: f64 = 1.959964;

/// Wilson's interval of 95 % around a share of `count` cases, at least one.
pub fn wilson(share: f64, count: u64) -> (f64, f64) {
    let n = count as f64;
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let reach = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - reach).max(0.0), (middle + reach).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of 0 and of all have a closed form: z^2 / (n + z^2) from the end. The others are solutions of
    /// |p - share| = z sqrt(p (1 - p) / n), which is what the interval's ends are.
    #[test]
    fn ends_are_where_the_share_is_just_likely() {
        for (share, count) in [(0.5, 10), (0.25, 40), (0.995, 400), (0.001, 1000)] {
            let (low, high) = wilson(share, count);
            assert!(low < share && share < high);
            for end in [low, high] {
                let reach = 1.959964 * (end * (1.0 - end) / count as f64).sqrt();
                assert!(((end - share).abs() - reach).abs() < 1e-12, "{share} of {count}: {end}");
            }
        }
        let (none, all) = (wilson(0.0, 20), wilson(1.0, 20));
        assert!(none.0 == 0.0 && (none.1 - 0.161125).abs() < 1e-6, "{none:?}");
        assert!(all.1 == 1.0 && (all.0 - 0.838875).abs() < 1e-6, "{all:?}");
    }
}
