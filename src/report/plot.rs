//! A plot of one metric: a line a run, as data that the page draws.

use std::ops::RangeInclusive;

use super::curve::Point;
use super::number::{bounds, short};
use super::page::escape;
use super::thin::{DRAWN_POINTS, Thinned, thinned};
use crate::sample::wilson;

/// A metric of several runs.
pub struct Plot<'a> {
    pub metric: &'a str,
    pub unit: Unit,
    /// Those of the axis.
    pub steps: RangeInclusive<u64>,
    /// What the axis of values spans at least.
    pub least: f64,
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
    /// How many cases each value is a share of, where it is one and that is known: the plot has its intervals then.
    pub cases: Option<usize>,
}

impl Plot<'_> {
    /// The SVG element, with the lines' points as data: the page's script draws them.
    pub fn svg(&self) -> String {
        let lines: String = self.lines.iter().map(|line| self.line(line)).collect();
        format!(
            "<svg class=\"plot\" viewBox=\"0 0 360 190\" tabindex=\"0\" role=\"img\" aria-label=\"{}\" \
             aria-describedby=\"plot-help\" data-metric=\"{}\" data-axis=\"{} {}\" data-least=\"{}\">\n{lines}</svg>",
            escape(&self.description()),
            escape(self.metric),
            self.steps.start(),
            self.steps.end(),
            self.least / self.unit.size,
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

    fn text(&self, value: f64) -> String {
        short(value / self.unit.size, 5).replace(',', "")
    }

    fn line(&self, line: &Line) -> String {
        let is_long = line.points.len() > DRAWN_POINTS;
        let thin = is_long.then(|| thinned(line.points, &self.steps));
        let points = thin.as_ref().map_or(line.points, |thin| &thin.points);
        let mut attributes =
            format!("data-run=\"{}\" data-name=\"{}\" data-unit=\"{}\"", line.run, escape(line.name), self.unit.name);
        let mut add = |name: &str, points: &[Point], text: &dyn Fn(&Point) -> String| {
            let texts: Vec<String> = points.iter().map(text).collect();
            attributes += &format!(" data-{name}=\"{}\"", texts.join(" "));
        };
        add("steps", points, &|point| point.step.to_string());
        add("values", points, &|point| self.text(point.value));
        if let Some(Thinned { means, .. }) = &thin {
            add("mean-steps", means, &|mean| mean.step.to_string());
            add("means", means, &|mean| self.text(mean.value));
        }
        if let Some(cases) = line.cases {
            add("low", points, &|point| self.text(wilson(point.value, cases)[0]));
            add("high", points, &|point| self.text(wilson(point.value, cases)[1]));
        }
        format!("<polyline class=\"line curve r{}\" {attributes}/>\n", line.run)
    }
}
