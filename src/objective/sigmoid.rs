//! The logistic function, where exp overflows too.

/// `1 / (1 + exp(-x))`
pub fn sigmoid(x: f64) -> f64 {
    log_sigmoid(x).exp()
}

/// `-log(1 + exp(-x))`
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}
