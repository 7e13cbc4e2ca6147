//! The two floating-point types that a CPU twin computes in.

use bytemuck::Pod;
use half::f16;
use num_traits::{Float, NumAssign};

use super::data::Data;
use super::exp::exp_f32;
use super::lanes::Lanes;

/// `f32` (the working precision everywhere) or `f64` (the reference that every GPU result is held against).
pub trait Real: Float + NumAssign + Pod + Lanes + Send + Sync + std::iter::Sum + std::fmt::Debug {
    /// The elements of a tensor that is stored in this precision.
    fn slice(data: &Data) -> Option<&[Self]>;

    /// As [`Real::slice`], to be written.
    fn slice_mut(data: &mut Data) -> Option<&mut [Self]>;

    /// The values themselves, where they are `f32`.
    fn f32s(values: &[Self]) -> Option<&[f32]>;

    /// As [`Real::f32s`], to be written.
    fn f32s_mut(values: &mut [Self]) -> Option<&mut [f32]>;

    /// Converts a parameter or an input; exact for `f64`, rounded to nearest for `f32`.
    fn of(value: f64) -> Self;

    /// Widens to `f64`, exactly.
    fn wide(self) -> f64;

    /// `e^x` for loops over many values: of a form that the compiler vectorises in the working precision.
    fn exp_in_loops(self) -> Self;

    /// The nearest f16, ties to even, of what is below the largest; for loops over many values too.
    fn to_nearest_f16(self) -> Self;
}

/// Partial sums side by side: the compiler can vectorise over them, and the rounding error grows with the length over this.
const LANES: usize = 16;

/// Sums of `term(i)` for `i < len`, in 16 interleaved partial sums.
#[inline]
pub fn sum_terms<T: Real, const N: usize>(len: usize, term: impl Fn(usize) -> [T; N]) -> [T; N] {
    let mut sums = [[T::zero(); LANES]; N];
    for i in 0..len {
        let terms = term(i);
        for n in 0..N {
            sums[n][i % LANES] += terms[n];
        }
    }
    totals(sums)
}

/// As [`sum_terms`] of the values at each place of slices of one length, for loops over many: nothing is checked value by value.
#[inline(always)] // so that it is compiled with the features of the loop that it stands in
pub fn sum_over<T: Real, const M: usize, const N: usize>(slices: [&[T]; M], term: impl Fn([T; M]) -> [T; N]) -> [T; N] {
    // Plain loops over arrays: those of the standard library are not inlined here.
    let (len, whole) = (slices[0].len(), slices[0].len() / LANES * LANES);
    assert!(slices.iter().all(|slice| slice.len() == len), "slices of several lengths");
    let (mut sums, mut values) = ([[T::zero(); LANES]; N], [T::zero(); M]);
    for first in (0..whole).step_by(LANES) {
        let mut lanes = [[T::zero(); LANES]; M];
        for m in 0..M {
            lanes[m].copy_from_slice(&slices[m][first..first + LANES]);
        }
        for lane in 0..LANES {
            for m in 0..M {
                values[m] = lanes[m][lane];
            }
            let terms = term(values);
            for n in 0..N {
                sums[n][lane] += terms[n];
            }
        }
    }
    for i in whole..len {
        for m in 0..M {
            values[m] = slices[m][i];
        }
        let terms = term(values);
        for n in 0..N {
            sums[n][i - whole] += terms[n];
        }
    }
    totals(sums)
}

/// Of each sum its lanes, in order.
#[inline(always)] // as above
fn totals<T: Real, const N: usize>(sums: [[T; LANES]; N]) -> [T; N] {
    let mut totals = [T::zero(); N];
    for n in 0..N {
        for sum in sums[n] {
            totals[n] += sum;
        }
    }
    totals
}

/// The largest of `values`, NaN aside; negative infinity where there is none.
#[inline(always)] // as above
pub fn largest<T: Real>(values: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::neg_infinity(); LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], block[lane]);
        }
    }
    let mut largest = T::neg_infinity();
    for &value in lanes.iter().chain(rest) {
        largest = larger(largest, value);
    }
    largest
}

macro_rules! real {
    ($type:ty, $data:ident, $exp:path) => {
        impl Real for $type {
            fn slice(data: &Data) -> Option<&[Self]> {
                match data {
                    Data::$data(values) => Some(values),
                    _ => None,
                }
            }

            fn slice_mut(data: &mut Data) -> Option<&mut [Self]> {
                match data {
                    Data::$data(values) => Some(values),
                    _ => None,
                }
            }

            fn f32s(values: &[Self]) -> Option<&[f32]> {
                bytemuck::try_cast_slice(values).ok().filter(|_| size_of::<Self>() == size_of::<f32>())
            }

            fn f32s_mut(values: &mut [Self]) -> Option<&mut [f32]> {
                bytemuck::try_cast_slice_mut(values).ok().filter(|_| size_of::<Self>() == size_of::<f32>())
            }

            #[inline]
            fn of(value: f64) -> Self {
                value as $type
            }

            #[inline]
            fn wide(self) -> f64 {
                f64::from(self)
            }

            #[inline]
            fn exp_in_loops(self) -> Self {
                $exp(self)
            }

            #[inline(always)] // so that it is compiled with the features of the loop that it stands in
            fn to_nearest_f16(self) -> Self {
                const LEAST_NORMAL: $type = 1.0 / 16384.0;
                const EXPONENT: u32 = <$type>::MANTISSA_DIGITS - f16::MANTISSA_DIGITS;
                // The last bit of the power of two times this is worth as much as that of the f16: adding it rounds.
                const ROUNDS: $type = 1.5 * (1u64 << EXPONENT) as $type;
                let power = <$type>::from_bits(self.to_bits() & <$type>::INFINITY.to_bits());
                let rounds = ROUNDS * if power > LEAST_NORMAL { power } else { LEAST_NORMAL };
                (self + rounds) - rounds
            }
        }
    };
}

real!(f32, F32, exp_f32);
real!(f64, F64, f64::exp);

#[cfg(test)]
mod tests {
    use half::f16;

    use super::{Real, sum_over, sum_terms};

    #[test]
    fn the_nearest_f16_is_that_of_the_format() {
        let exact = [1.0, -1.5, 16384.0, 32767.0, 2f64.powi(-14), 2f64.powi(-24), 3.7e-8, 0.0, 1.0 + 2f64.powi(-11)];
        for x in exact.into_iter().chain((0..1000).map(|i| 1.37f64.powi(i % 40 - 25) * f64::from(i - 500))) {
            assert_eq!(x.to_nearest_f16(), f16::from_f64(x).to_f64(), "{x}");
            let x = x as f32;
            assert_eq!(x.to_nearest_f16(), f16::from_f32(x).to_f32(), "{x}");
        }
        assert!(f64::NAN.to_nearest_f16().is_nan() && f32::NAN.to_nearest_f16().is_nan());
    }

    #[test]
    fn sums_over_slices_are_those_of_terms() {
        for len in 0..70 {
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let y: Vec<f32> = (0..len).map(|i| (i as f32 * 0.3).cos()).collect();
            let by_place = sum_terms(len, |i| [x[i] * y[i], x[i] + y[i]]);
            assert_eq!(sum_over([&x, &y], |[x, y]| [x * y, x + y]), by_place, "{len} values");
        }
    }
}
