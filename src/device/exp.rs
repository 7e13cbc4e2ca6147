//! The exponential function without branches and calls, so that loops over it are vectorised.

/// `e^x`, within two units of the last place; 0, infinity and NaN where `exp` gives them.
#[inline]
pub fn exp_f32(x: f32) -> f32 {
    /// Beyond these the result is 0 or infinite.
    const LEAST: f32 = -104.0;
    const MOST: f32 = 89.0;
    /// What is added to it is rounded to a whole number, which stands in its last bits.
    const ROUNDS: f32 = 12_582_912.0;
    /// The logarithm of 2 in two parts; whole numbers below 2^13 times the first are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

    let x = if x < LEAST { LEAST } else { x };
    let x = if x > MOST { MOST } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUNDS;
    let n = rounded - ROUNDS;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    // Taylor's polynomial, its last coefficients moved for the least error over half a binary order.
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        p = p * r + coefficient;
    }
    let y = p * (r * r) + r + 1.0;
    // 2^n as two factors, of which neither overflows.
    let n = rounded.to_bits().wrapping_sub(ROUNDS.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    y * power(half) * power(n.wrapping_sub(half))
}

#[cfg(test)]
mod tests {
    use super::exp_f32;

    #[test]
    fn the_exponential_is_within_two_units_of_the_last_place() {
        let mut worst = 0.0f64;
        for i in -104_000..=89_000 {
            let x = i as f32 * 1e-3;
            let (value, exact) = (f64::from(exp_f32(x)), f64::from(x).exp());
            let unit = f64::from(f32::EPSILON) * exact.max(f64::from(f32::MIN_POSITIVE));
            if exact < f64::from(f32::MAX) {
                worst = worst.max((value - exact).abs() / unit);
            } else {
                assert!(value.is_infinite(), "exp({x})");
            }
        }
        assert!(worst < 2.0, "{worst} units");
    }

    #[test]
    fn the_exponential_of_what_is_no_number_is_none() {
        assert!(exp_f32(f32::NAN).is_nan());
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_f32(f32::INFINITY), f32::INFINITY);
        assert_eq!([exp_f32(0.0), exp_f32(-0.0)], [1.0, 1.0]);
    }
}
