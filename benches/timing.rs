//! How long a call takes.

use std::time::Instant;

use anyhow::Result;

use crate::device::Device;

/// A measurement lasts this long at least, in seconds.
const SPAN: f64 = 0.05;
/// Measurements of which the median counts.
const REPEATS: usize = 5;

/// Seconds of one call: the median of some measurements, each of as many calls as fill a while.
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
    measure(1)?; // compiles, and warms the caches
    let calls = (SPAN / measure(1)?.max(1e-7)).ceil().clamp(1.0, 1000.0) as usize;
    let mut seconds = (0..REPEATS).map(|_| Ok(measure(calls)? / calls as f64)).collect::<Result<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[REPEATS / 2])
}
