//! The ranges that options must be in.

use anyhow::{Result, ensure};

/// # Errors
/// Names the option where it is not a number from 0 on.
pub fn not_negative(option: &str, value: f64) -> Result<()> {
    within(option, value, value >= 0.0 && value.is_finite())
}

/// # Errors
/// Names the option where it is not a number above 0.
pub fn positive(option: &str, value: f64) -> Result<()> {
    within(option, value, value > 0.0 && value.is_finite())
}

/// # Errors
/// Names the option where it is not from 0 to 1.
pub fn unit(option: &str, value: f64) -> Result<()> {
    within(option, value, (0.0..=1.0).contains(&value))
}

/// # Errors
/// Names the option where it is not `allowed`.
pub fn within(option: &str, value: f64, allowed: bool) -> Result<()> {
    ensure!(allowed, "{option} is {value}, which is out of its range");
    Ok(())
}
