//! Long curves in fewer points.

use std::ops::RangeInclusive;

use super::curve::Point;

/// A curve with more points is drawn by the least and the greatest of each column.
pub const DRAWN_POINTS: usize = 1000;
/// Columns are narrower than a pixel of a plot on most screens.
const COLUMNS: u128 = DRAWN_POINTS as u128 / 2;

/// A long curve as it is drawn.
pub struct Thinned {
    /// The least and the greatest value of each column, with the curve's ends.
    pub points: Vec<Point>,
    /// Each column's mean, at its middle point's step.
    pub means: Vec<Point>,
}

/// A curve of more than [`DRAWN_POINTS`] points in columns over the axis.
pub fn thinned(points: &[Point], steps: &RangeInclusive<u64>) -> Thinned {
    let (first, last) = (*steps.start(), *steps.end());
    let column = |point: &Point| u128::from(point.step - first) * COLUMNS / (u128::from(last - first) + 1);
    let (mut kept, mut means) = (vec![points[0]], Vec::new());
    for points in points.chunk_by(|a, b| column(a) == column(b)) {
        let by_value = |a: &&Point, b: &&Point| a.value.total_cmp(&b.value);
        let least = points.iter().min_by(by_value);
        let greatest = points.iter().max_by(by_value);
        let (Some(&least), Some(&greatest)) = (least, greatest) else { continue };
        kept.extend(if least.step <= greatest.step { [least, greatest] } else { [greatest, least] });
        let mean = points.iter().map(|point| point.value / points.len() as f64).sum();
        means.push(Point { step: points[points.len() / 2].step, value: mean });
    }
    kept.push(points[points.len() - 1]);
    kept.dedup();
    Thinned { points: kept, means }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_ends_and_every_columns_extremes_and_mean() {
        let mut points: Vec<Point> = (1..=50_000).map(|step| Point { step, value: (step % 5) as f64 }).collect();
        points[31_234].value = 99.0;
        points[31_235].value = -95.0;
        let Thinned { points: kept, means } = thinned(&points, &(1..=50_000));
        assert!(kept.len() <= DRAWN_POINTS + 2, "{}", kept.len());
        assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[49_999]));
        assert!(kept.contains(&points[31_234]) && kept.contains(&points[31_235]));
        assert!(kept.is_sorted_by_key(|point| point.step));
        // 100 points a column, of which a fifth each is 0 to 4.
        assert_eq!(means.len(), 500);
        assert!(means.iter().all(|mean| (mean.value - 2.0).abs() < 0.1), "{means:?}");
    }
}
