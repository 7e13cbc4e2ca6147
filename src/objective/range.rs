//! The ranges that options must be in.

use anyhow::{Result, bail, ensure};

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

/// More of anything is a slip, and would overflow what is computed of it.
pub const MOST: usize = 1 << 40;

/// Tokens of a sequence or a micro-batch, which kernels count in 32 bits.
pub const MOST_TOKENS: usize = 1 << 24;

/// Rows of a step, responses to a problem: they are held together.
pub const MOST_ROWS: usize = 1 << 20;

/// # Errors
/// Names the option where it is not from 1 to `most`.
pub fn count(option: &str, value: usize, most: usize) -> Result<()> {
    match value {
        0 => bail!("{option} is 0; it must be at least 1"),
        value if value > most => bail!("{option} is {value}; it must be at most {most}"),
        _ => Ok(()),
    }
}

/// A count as it is typed, for options of which none is wrong usage.
///
/// # Errors
/// Where it is no whole number, or is 0.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(count) if count > MOST => Err(format!("it must be at most {MOST}")),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

/// # Errors
/// Names the option where it is not `allowed`.
pub fn within(option: &str, value: f64, allowed: bool) -> Result<()> {
    ensure!(allowed, "{option} is {value}, which is out of its range");
    Ok(())
}
