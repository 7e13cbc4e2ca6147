//! The table of `dqo-wgpu bench`: every kernel's time, share of the limit, and error.

use anyhow::Result;
use serde::Serialize;

use super::case::{Case, Work, relative_error};
use super::limits::Limits;
use super::timing::seconds_of;
use crate::device::{Device, Precision};

/// A kernel's row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub kernel: &'static str,
    pub shape: String,
    /// Of one call.
    pub seconds: f64,
    /// Operations or bytes a second.
    pub rate: f64,
    /// `FLOP/s` or `B/s`.
    pub unit: &'static str,
    /// Of the limit that was measured in the same run, 0 to 1.
    pub share: f64,
    /// The largest relative error of any output against the f64 twin.
    pub error: f64,
}

/// Times a case on a device, and holds its outputs against the f64 twin.
///
/// # Errors
/// Where the device fails.
pub fn row(device: &Device, case: &Case, limits: Limits) -> Result<Row> {
    let outputs = case.outputs(device)?;
    let reference = case.outputs(&Device::cpu(Precision::F64))?;
    let errors = outputs.iter().zip(&reference).map(|(found, exact)| relative_error(&found.values, &exact.values));
    let error = errors.fold(0.0, f64::max);

    let mut tensors = case.tensors(device)?;
    let seconds = seconds_of(device, || case.call(device, &mut tensors))?;
    let (amount, unit, limit) = match case.work {
        Work::Flops(flops) => (flops, "FLOP/s", limits.flops),
        Work::Bytes(bytes) => (bytes, "B/s", limits.bytes),
    };
    let rate = amount / seconds;
    Ok(Row { kernel: case.kernel, shape: case.shape.clone(), seconds, rate, unit, share: rate / limit, error })
}
