//! The table of `dqo-wgpu bench`: every kernel's time, share of the limit, and error.

use std::time::Instant;

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
    /// What it computes, in Markdown.
    pub formula: String,
    pub shape: String,
    /// Of one call: the median.
    pub seconds: f64,
    /// Operations or bytes a second.
    pub rate: f64,
    /// `FLOP/s` or `B/s`.
    pub unit: &'static str,
    /// Of the limit, 0 to 1: the median over measurements of both side by side.
    pub share: f64,
    /// The largest relative error of any output against the f64 twin, where that is asked.
    pub error: Option<f64>,
}

/// The head of the table of [`Row::markdown`].
pub const MARKDOWN_HEAD: &str = "| kernel | computes | shape | time | of limit | error |\n|---|---|---|--:|--:|--:|";

/// The head of the table of [`Row::line`].
pub fn head() -> String {
    format!("{:<29}{:<36}{:>11}{:>15}{:>9}{:>10}", "kernel", "shape", "time", "rate", "of limit", "error")
}

impl Row {
    /// The row for a terminal.
    pub fn line(&self) -> String {
        let rate = format!("{:.2} G{}", self.rate / 1e9, self.unit);
        let (time, share) = (format!("{:.3} ms", 1e3 * self.seconds), format!("{:.0} %", 100.0 * self.share));
        let error = self.error.map_or("-".to_owned(), |error| format!("{error:.1e}"));
        let Self { kernel, shape, .. } = self;
        format!("{kernel:<29}{shape:<36}{time:>11}{rate:>15}{share:>9}{error:>10}")
    }

    /// The row in Markdown; the limit is copying or fused multiply-adds, whichever the kernel is bound by.
    pub fn markdown(&self) -> String {
        let limit = if self.unit == "B/s" { "copying" } else { "FMA" };
        let error = self.error.map_or("-".to_owned(), |error| format!("{error:.0e}"));
        format!(
            "| `{}` | {} | {} | {:.3} ms | {:.0} % {limit} | {error} |",
            self.kernel,
            self.formula.replace('|', "\\|"),
            self.shape,
            1e3 * self.seconds,
            100.0 * self.share
        )
    }
}

/// Measurements of a case and its limit in turn, of which the median counts.
const ROUNDS: usize = 7;

/// As many at least, where they take long.
const LEAST_ROUNDS: usize = 3;

/// Seconds after which a row has been measured for long.
const LONG: f64 = 4.0;

/// Operations of a case that the twin in f64 is asked for: a few seconds of a few cores.
const CHECKED_FLOPS: f64 = 5e10;

/// What a device can do at most.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Peaks {
    /// Operations a second.
    pub flops: f64,
    /// Bytes a second.
    pub bytes: f64,
}

/// Why a case is no row on a device, where it is too large for it: its tensors take half of the memory or cannot be bound; or it
/// is a GPU, whose systems do not wait long, and at a tenth of the limit a call takes a second.
pub fn too_large(device: &Device, case: &Case, peaks: Peaks) -> Option<&'static str> {
    let plan = Device::plan(device);
    let fits = case.tensors(&plan).is_ok()
        && device.limits().memory_bytes.is_none_or(|memory| plan.peak_bytes() <= memory / 2);
    let seconds = match case.work {
        Work::Flops(flops) => flops / peaks.flops,
        Work::Bytes(bytes) => bytes / peaks.bytes,
    };
    match (fits, device.is_real_gpu() && 10.0 * seconds > 1.0) {
        (false, _) => Some("takes too much memory"),
        (_, true) => Some("takes too long"),
        _ => None,
    }
}

/// Times a case on a device, and holds its outputs against the f64 twin.
///
/// # Errors
/// Where the device fails.
pub fn row(device: &Device, case: &Case, yardsticks: &mut Yardsticks) -> Result<Row> {
    let is_checked = !matches!(case.work, Work::Flops(flops) if flops > CHECKED_FLOPS);
    let error = if is_checked { Some(error(device, case)?) } else { None };

    let mut tensors = case.tensors(device)?;
    let (mut seconds, mut shares) = (Vec::new(), Vec::new());
    let (amount, unit) = match case.work {
        Work::Flops(flops) => (flops, "FLOP/s"),
        Work::Bytes(bytes) => (bytes, "B/s"),
    };
    let start = Instant::now();
    while seconds.len() < ROUNDS && (seconds.len() < LEAST_ROUNDS || start.elapsed().as_secs_f64() < LONG) {
        let limit = match case.work {
            Work::Flops(_) => yardsticks.flops()?,
            Work::Bytes(_) => yardsticks.bytes()?,
        };
        let time = seconds_of(device, || case.call(device, &mut tensors))?;
        seconds.push(time);
        shares.push(amount / time / limit);
    }
    let seconds = median(seconds);
    Ok(Row {
        kernel: case.kernel,
        formula: case.formula.clone(),
        shape: case.shape.clone(),
        seconds,
        rate: amount / seconds,
        unit,
        share: median(shares),
        error,
    })
}

/// The largest error of any output against the f64 twin.
fn error(device: &Device, case: &Case) -> Result<f64> {
    let outputs = case.outputs(device)?;
    let reference = case.outputs(&Device::cpu(Precision::F64))?;
    let errors = outputs.iter().zip(&reference).map(|(found, exact)| relative_error(&found.values, &exact.values));
    Ok(errors.fold(0.0, f64::max))
}
