//! The table of `dqo-wgpu bench`: every kernel's time, share of the limit, and error.

use anyhow::Result;
use serde::Serialize;

use super::case::{Case, Work, relative_error};
use super::limits::Yardsticks;
use super::timing::{median, seconds_of};
use crate::device::{Device, Precision};

/// A kernel's row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub kernel: &'static str,
    pub shape: String,
    /// Of one call: the median.
    pub seconds: f64,
    /// Operations or bytes a second.
    pub rate: f64,
    /// `FLOP/s` or `B/s`.
    pub unit: &'static str,
    /// Of the limit, 0 to 1: the median over measurements of both side by side.
    pub share: f64,
    /// The largest relative error of any output against the f64 twin.
    pub error: f64,
}

/// Measurements of a case and its limit in turn, of which the median counts.
const ROUNDS: usize = 7;

/// Times a case on a device, and holds its outputs against the f64 twin.
///
/// # Errors
/// Where the device fails.
pub fn row(device: &Device, case: &Case, yardsticks: &mut Yardsticks) -> Result<Row> {
    let outputs = case.outputs(device)?;
    let reference = case.outputs(&Device::cpu(Precision::F64))?;
    let errors = outputs.iter().zip(&reference).map(|(found, exact)| relative_error(&found.values, &exact.values));
    let error = errors.fold(0.0, f64::max);

    let mut tensors = case.tensors(device)?;
    let (mut seconds, mut shares) = (Vec::new(), Vec::new());
    let (amount, unit) = match case.work {
        Work::Flops(flops) => (flops, "FLOP/s"),
        Work::Bytes(bytes) => (bytes, "B/s"),
    };
    for _ in 0..ROUNDS {
        let limit = match case.work {
            Work::Flops(_) => yardsticks.flops()?,
            Work::Bytes(_) => yardsticks.bytes()?,
        };
        let time = seconds_of(device, || case.call(device, &mut tensors))?;
        seconds.push(time);
        shares.push(amount / time / limit);
    }
    let seconds = median(seconds);
    let (kernel, shape, rate, share) = (case.kernel, case.shape.clone(), amount / seconds, median(shares));
    Ok(Row { kernel, shape, seconds, rate, unit, share, error })
}
