//! What the steps of a loop cost the host: dispatches, submissions and its own time.

use std::time::Instant;

use serde::Serialize;

use super::timing::median;
use crate::device::Device;
use crate::gpu::{Activity, Gpu};

/// The ends of a loop's steps, noted as they come.
pub struct StepEnds {
    device: Device,
    ends: Vec<(Instant, Activity)>,
}

/// The median of the steps, each number by itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MedianStep {
    pub seconds: f64,
    /// Where the device is a GPU.
    pub host: Option<HostWork>,
}

/// What the host did for a step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HostWork {
    pub dispatches: f64,
    pub submissions: f64,
    /// In which it did not wait for the GPU. (A software adapter may compute while it is handed its work.)
    pub seconds: f64,
}

impl StepEnds {
    /// None yet.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), ends: Vec::new() }
    }

    /// Notes that a step has ended.
    pub fn note(&mut self) {
        let activity = self.device.as_gpu().map(Gpu::activity).unwrap_or_default();
        self.ends.push((Instant::now(), activity));
    }

    /// The median step, from one end to the next. Kernels are compiled before the first end, and the optimizer's before the
    /// second.
    pub fn median(&self) -> MedianStep {
        let steps = self.ends.windows(2).map(|pair| ((pair[1].0 - pair[0].0).as_secs_f64(), pair[1].1 - pair[0].1));
        let steps: Vec<(f64, Activity)> = steps.collect();
        let of = |number: fn(&(f64, Activity)) -> f64| median(steps.iter().map(number).collect());
        MedianStep {
            seconds: of(|(seconds, _)| *seconds),
            host: self.device.as_gpu().map(|_| HostWork {
                dispatches: of(|(_, activity)| activity.dispatches as f64),
                submissions: of(|(_, activity)| activity.submissions as f64),
                seconds: of(|(seconds, activity)| seconds - activity.seconds_waiting),
            }),
        }
    }
}
