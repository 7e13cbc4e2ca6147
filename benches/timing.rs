//! How long a call takes.

use std::time::Instant;

use anyhow::Result;

use crate::device::Device;

/// A measurement lasts about this long, in seconds.
const SPAN: f64 = 0.02;

/// Seconds of one call: the mean over as many calls as fill a while, after one that compiles and warms up.
///
/// # Errors
/// Where the device fails.
pub fn seconds_of(device: &Device, mut call: impl FnMut()) -> Result<f64> {
    let mut measure = |calls: usize| {
        let mut work = || (0..calls).for_each(|_| call());
        match device.as_gpu() {
            Some(gpu) => gpu.measure(work),
            None => {
                let start = Instant::now();
                work();
                Ok(start.elapsed().as_secs_f64())
            }
        }
    };
    let first = measure(1)?;
    let calls = (SPAN / first.max(1e-7)).ceil().clamp(1.0, 1000.0) as usize;
    Ok(measure(calls)? / calls as f64)
}

/// The median; 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
