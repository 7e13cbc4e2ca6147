//! A plot of one metric: a line a run, over the steps, as inline SVG.

use std::ops::RangeInclusive;

use super::number::{bounds, nice, short, ticks};
use super::page::escape;
use super::run::Point;

/// A metric of several runs.
pub struct Plot<'a> {
    pub metric: &'a str,
    pub unit: Unit,
    /// Those of the axis.
    pub steps: RangeInclusive<u64>,
    pub lines: Vec<Line<'a>>,
}

/// In what values are drawn.
#[derive(Clone, Copy)]
pub struct Unit {
    /// What a value is divided by.
    pub size: f64,
    /// What is written after it.
    pub name: &'static str,
}

impl Unit {
    /// Values as they are.
    pub const ONE: Self = Self { size: 1.0, name: "" };
}

/// A run's line in a plot.
pub struct Line<'a> {
    /// The run's number on the page, which gives the colour.
    pub run: usize,
    pub name: &'a str,
    /// At least one.
    pub points: &'a [Point],
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 190.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;
/// A character beside the axis.
const CHARACTER: f64 = 6.8;

/// A curve with more points is drawn by the least and the greatest of each column.
const DRAWN_POINTS: usize = 1000;
/// Columns are narrower than a pixel of a plot on most screens.
const COLUMNS: u128 = DRAWN_POINTS as u128 / 2;
/// Up to so many points are marked each.
const MARKED_POINTS: usize = 40;

impl Plot<'_> {
    /// The SVG element.
    pub fn svg(&self) -> String {
        let (low, high) = self.range();
        let marks = ticks(low, high, 4);
        let longest = marks.iter().map(|(_, label)| label.len()).max().unwrap_or(0);
        let left = (12.0 + CHARACTER * longest as f64).max(40.0);
        let frame = Frame { left, low, high, steps: self.steps.clone() };
        let with_mean = self.lines.iter().any(|line| is_noisy(line.points));
        let lines: String = self.lines.iter().map(|line| self.line(line, &frame, with_mean)).collect();
        let spots: String = self.lines.iter().map(|line| spot(line.run)).collect();
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let (first, last) = (self.steps.start(), self.steps.end());
        format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" tabindex=\"0\" role=\"img\" aria-label=\"{}\" \
             aria-describedby=\"plot-help\" data-axis=\"{first} {last} {left} {right}\">\n{}{}\
             <line class=\"cross\" y1=\"{TOP}\" y2=\"{bottom}\"/>\n{lines}{spots}</svg>",
            escape(&self.description()),
            value_axis(&marks, &frame),
            step_axis(&frame),
        )
    }

    /// What the drawing says, in words.
    fn description(&self) -> String {
        let of_line = |line: &Line| {
            let (first, last) = (line.points[0], line.points[line.points.len() - 1]);
            let (low, high) = bounds(line.points.iter().map(|point| point.value));
            let text = |value| self.text(value) + self.unit.name;
            let (from, to) = (text(first.value), text(last.value));
            match line.points.len() {
                1 => format!("{}: {from} at step {}", line.name, first.step),
                _ => format!(
                    "{}: from {from} at step {} to {to} at step {}, between {} and {}",
                    line.name,
                    first.step,
                    last.step,
                    text(low),
                    text(high)
                ),
            }
        };
        format!("{} by step. {}", self.metric, self.lines.iter().map(of_line).collect::<Vec<_>>().join("; "))
    }

    /// A value in the plot's unit, short of where the plot's range would overflow.
    fn drawn(&self, value: f64) -> f64 {
        (value / self.unit.size).clamp(-1e300, 1e300)
    }

    fn text(&self, value: f64) -> String {
        short(value / self.unit.size, 5)
    }

    /// The values that the plot shows: a little more than there are, but nothing below zero where none is.
    fn range(&self) -> (f64, f64) {
        let values = self.lines.iter().flat_map(|line| line.points.iter().map(|point| self.drawn(point.value)));
        let (low, high) = bounds(values);
        let size = low.abs().max(high.abs());
        let is_flat = high - low <= 1e-9 * size;
        let margin = if !is_flat { 0.06 * (high - low) } else { if size > 0.0 { 0.1 * size } else { 1.0 } };
        let bottom = if low >= 0.0 { (low - margin).max(0.0) } else { low - margin };
        let top = if high <= 0.0 && !is_flat { (high + margin).min(0.0) } else { high + margin };
        (bottom, top)
    }

    fn line(&self, line: &Line, frame: &Frame, with_mean: bool) -> String {
        let points = thinned(line.points, &self.steps);
        let place = |point: &Point| (frame.x(point.step), frame.y(self.drawn(point.value)));
        let joined = |text: &dyn Fn(&Point) -> String| points.iter().map(text).collect::<Vec<_>>().join(" ");
        let run = line.run;
        let markers = if points.len() <= MARKED_POINTS {
            let marker = |point: &Point| {
                let (x, y) = place(point);
                format!("M{x:.1} {y:.1}h0")
            };
            format!("<path class=\"line marker r{run}\" d=\"{}\"/>\n", joined(&marker))
        } else {
            String::new()
        };
        let coordinates = |points: &[Point]| {
            let text = |point| {
                let (x, y) = place(point);
                format!("{x:.1},{y:.1}")
            };
            points.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        let (pale, mean) = if with_mean && line.points.len() > MARKED_POINTS {
            let mean = coordinates(&thinned(&running_mean(line.points), &self.steps));
            (" pale", format!("<polyline class=\"line mean r{run}\" points=\"{mean}\"/>\n"))
        } else {
            ("", String::new())
        };
        format!(
            "<polyline class=\"line curve{pale} r{run}\" data-run=\"{run}\" data-name=\"{}\" data-unit=\"{}\" \
             data-steps=\"{}\" data-values=\"{}\" points=\"{}\"/>\n{markers}{mean}",
            escape(line.name),
            self.unit.name,
            joined(&|point| point.step.to_string()),
            joined(&|point| self.text(point.value)),
            coordinates(&points),
        )
    }
}

/// Where a point of the page lies in the drawing.
struct Frame {
    left: f64,
    low: f64,
    high: f64,
    steps: RangeInclusive<u64>,
}

impl Frame {
    fn x(&self, step: u64) -> f64 {
        let (first, last) = (*self.steps.start(), *self.steps.end());
        let share = if last > first { (step - first) as f64 / (last - first) as f64 } else { 0.5 };
        self.left + share * (WIDTH - RIGHT - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - BOTTOM - TOP)
    }
}

fn value_axis(marks: &[(f64, String)], frame: &Frame) -> String {
    let mark = |(value, label): &(f64, String)| {
        let (y, left, right) = (frame.y(*value), frame.left, WIDTH - RIGHT);
        let kind = if *value == 0.0 { "zero" } else { "grid" };
        format!(
            "<path class=\"{kind}\" d=\"M{left:.1} {y:.1}H{right}\"/><text class=\"at-left\" x=\"{:.1}\" \
             y=\"{:.1}\">{label}</text>\n",
            left - 6.0,
            y + 3.5
        )
    };
    marks.iter().map(mark).collect()
}

fn step_axis(frame: &Frame) -> String {
    let (first, last) = (*frame.steps.start(), *frame.steps.end());
    let bottom = HEIGHT - BOTTOM;
    let every = nice((last - first) as f64 / 4.0).max(1.0) as u64;
    // The last step's label, which also names the axis, ends at the edge; no other may run into it or into the first's.
    let half = |step: u64| 0.5 * CHARACTER * step.to_string().len() as f64;
    let end = WIDTH - 2.0 * half(last) - CHARACTER * 6.0;
    let begin = frame.x(first) + half(first) + CHARACTER;
    let marks = (first.div_ceil(every)..=last / every).map(|mark| mark * every).take(20);
    let fits = |step: &u64| frame.x(*step) - half(*step) > begin && frame.x(*step) + half(*step) < end;
    let mut marks: Vec<u64> = marks.filter(fits).collect();
    if first < last {
        marks.insert(0, first);
    }
    let label = |step: &u64| {
        format!("<text class=\"below\" x=\"{:.1}\" y=\"{:.1}\">{step}</text>\n", frame.x(*step), bottom + 16.0)
    };
    format!(
        "<path class=\"axis\" d=\"M{:.1} {bottom}H{}\"/>\n{}<text class=\"at-left\" x=\"{:.1}\" y=\"{:.1}\">step {last}\
         </text>\n",
        frame.left,
        WIDTH - RIGHT,
        marks.iter().map(label).collect::<String>(),
        WIDTH - 2.0,
        bottom + 16.0
    )
}

/// The spot on a run's line that the pointer or the keyboard is at; the script moves it.
fn spot(run: usize) -> String {
    format!("<circle class=\"spot r{run}\" data-run=\"{run}\" r=\"4\"/>\n")
}

/// A curve as it is drawn: whole, or by the least and the greatest value of each column, with its ends.
fn thinned(points: &[Point], steps: &RangeInclusive<u64>) -> Vec<Point> {
    if points.len() <= DRAWN_POINTS {
        return points.to_vec();
    }
    let (first, last) = (*steps.start(), *steps.end());
    let column = |point: &Point| u128::from(point.step - first) * COLUMNS / (u128::from(last - first) + 1);
    let mut kept = vec![points[0]];
    for points in points.chunk_by(|a, b| column(a) == column(b)) {
        let by_value = |a: &&Point, b: &&Point| a.value.total_cmp(&b.value);
        let least = points.iter().min_by(by_value);
        let greatest = points.iter().max_by(by_value);
        let (Some(&least), Some(&greatest)) = (least, greatest) else { continue };
        let pair = if least.step <= greatest.step { [least, greatest] } else { [greatest, least] };
        kept.extend(pair);
    }
    kept.push(points[points.len() - 1]);
    kept.dedup();
    kept
}

/// Whether a curve goes up and down so much that its course is hard to see.
fn is_noisy(points: &[Point]) -> bool {
    let (low, high) = bounds(points.iter().map(|point| point.value));
    let way: f64 = points.windows(2).map(|pair| (pair[1].value - pair[0].value).abs()).sum();
    points.len() > MARKED_POINTS && way > 6.0 * (high - low)
}

/// The mean of the points around each: a twentieth of the curve, half of it at the ends.
fn running_mean(points: &[Point]) -> Vec<Point> {
    let reach = points.len() / 40 + 1;
    let mut sums = vec![0.0];
    sums.extend(points.iter().scan(0.0, |sum, point| {
        *sum += point.value;
        Some(*sum)
    }));
    let mean = |(index, point): (usize, &Point)| {
        let (begin, end) = (index.saturating_sub(reach), points.len().min(index + reach + 1));
        Point { step: point.step, value: (sums[end] - sums[begin]) / (end - begin) as f64 }
    };
    points.iter().enumerate().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_ends_and_every_columns_extremes() {
        let mut points: Vec<Point> = (1..=50_000).map(|step| Point { step, value: (step % 7) as f64 }).collect();
        points[31_234].value = 99.0;
        points[31_235].value = -99.0;
        let kept = thinned(&points, &(1..=50_000));
        assert!(kept.len() <= DRAWN_POINTS + 2, "{}", kept.len());
        assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[49_999]));
        assert!(kept.contains(&points[31_234]) && kept.contains(&points[31_235]));
        assert!(kept.is_sorted_by_key(|point| point.step));
        assert_eq!(thinned(&points[..1000], &(1..=50_000)), points[..1000]);
    }

    #[test]
    fn a_running_mean_keeps_a_line_and_halves_its_window_at_the_ends() {
        let points: Vec<Point> = (1..=80).map(|step| Point { step, value: step as f64 }).collect();
        let mean = running_mean(&points);
        assert_eq!(mean[3..77], points[3..77]);
        assert_eq!((mean[0].value, mean[79].value), (2.5, 78.5));
        assert!(!is_noisy(&points));
        let noise: Vec<Point> = points.iter().map(|point| Point { value: (point.step % 2) as f64, ..*point }).collect();
        assert!(is_noisy(&noise));
    }
}
