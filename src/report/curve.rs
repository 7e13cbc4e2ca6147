//! A metric over the steps of a run.

/// A metric over the run.
pub struct Curve {
    pub metric: String,
    /// At least one; their steps never fall.
    pub points: Vec<Point>,
}

/// A metric's value at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub step: u64,
    pub value: f64,
}

impl Curve {
    /// Its last point.
    pub fn last(&self) -> Point {
        self.points[self.points.len() - 1]
    }
}
