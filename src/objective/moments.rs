//! The mean and the spread of some numbers.

/// The mean of numbers, and their unbiased variance; a number alone has none.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    pub mean: f64,
    pub variance: f64,
}

impl Moments {
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, variance: squares / f64::max(count - 1.0, 1.0) }
    }
}
