//! Learning-rate schedules, as transformers computes them.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The course of the learning rate behind the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerType {
    Constant,
    /// Down at a line.
    Linear,
    /// Down along half a cosine.
    Cosine,
}

/// A schedule over a run.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub kind: SchedulerType,
    /// The factor that it goes down to.
    pub min_rate: f64,
    /// Those over which it rises from 0.
    pub warmup_steps: usize,
    pub total_steps: usize,
}

impl Schedule {
    /// The factor of the learning rate in the step behind `done` finished ones.
    pub fn factor(&self, done: usize) -> f64 {
        if done < self.warmup_steps {
            return done as f64 / self.warmup_steps.max(1) as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((done - self.warmup_steps) as f64 / span).min(1.0);
        let height = match self.kind {
            SchedulerType::Constant => return 1.0,
            SchedulerType::Linear => 1.0 - progress,
            SchedulerType::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.min_rate + (1.0 - self.min_rate) * height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_decay() {
        let schedule = |kind, warmup_steps, total_steps| Schedule { kind, min_rate: 0.0, warmup_steps, total_steps };
        let linear = schedule(SchedulerType::Linear, 2, 10);
        let factors: Vec<f64> = (0..10).map(|done| linear.factor(done)).collect();
        assert_eq!(factors, [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
        let cosine = schedule(SchedulerType::Cosine, 0, 4);
        assert!((cosine.factor(2) - 0.5).abs() < 1e-15);
        assert_eq!(schedule(SchedulerType::Constant, 0, 4).factor(3), 1.0);
        let held = Schedule { min_rate: 0.25, ..linear };
        assert_eq!([held.factor(0), held.factor(2), held.factor(6), held.factor(10)], [0.0, 1.0, 0.625, 0.25]);
    }
}
