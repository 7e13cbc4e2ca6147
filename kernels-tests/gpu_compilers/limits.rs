//! The limits that kernels keep, and the exceptions: `benches/gpu-compilers.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::figures::{FIGURES, Report, Row};

/// What a figure is where it does not keep its limit: by compiler, pipeline and figure. It may not become worse.
type Exceptions = BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>;

/// The file's two tables.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    limit: Vec<Limit>,
    #[serde(default)]
    exceptions: Exceptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    figure: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
    /// All, where none is named.
    #[serde(default)]
    gpus: Vec<String>,
    /// All, where none is named.
    #[serde(default)]
    kernels: Vec<String>,
    /// What is part of a pipeline's name.
    #[serde(default)]
    containing: String,
    /// All, and kernels that know no heads, where none is named.
    #[serde(default)]
    head_dims: Vec<u32>,
    /// Larger heads are free.
    max_head_dim: Option<u32>,
}

/// What [`Limits::check`] found, a line each.
#[derive(Default)]
pub struct Found {
    /// Worse than the limit and its exception.
    pub broken: Vec<String>,
    /// Exceptions that are too wide, or none any more.
    pub better: Vec<String>,
}

impl Limit {
    fn holds_of(&self, gpu: &str, row: &Row) -> bool {
        let is_named = |names: &[String], name: &str| names.is_empty() || names.iter().any(|named| named == name);
        is_named(&self.gpus, gpu)
            && is_named(&self.kernels, &row.kernel)
            && row.pipeline.contains(&self.containing)
            && (self.head_dims.is_empty() || row.head_dim.is_some_and(|size| self.head_dims.contains(&size)))
            && self.max_head_dim.is_none_or(|most| row.head_dim.is_none_or(|size| size <= most))
    }

    fn is_kept(&self, value: f64) -> bool {
        self.at_most.is_none_or(|most| value <= most) && self.at_least.is_none_or(|least| value >= least)
    }

    /// Whether a value is further from the limit than another.
    fn is_worse(&self, value: f64, than: f64) -> bool {
        if self.at_most.is_some() { value > than } else { value < than }
    }

    fn text(&self) -> String {
        let most = self.at_most.map(|most| format!("at most {most}"));
        most.or(self.at_least.map(|least| format!("at least {least}"))).unwrap_or_default()
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu-compilers.toml")
}

/// What the exceptions begin with.
const EXCEPTIONS: &str = "# Exceptions.";

impl Limits {
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string(path()).unwrap())
    }

    fn parse(text: &str) -> Self {
        let limits: Self = toml::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", path().display()));
        for limit in &limits.limit {
            let name = &limit.figure;
            assert!(FIGURES.iter().any(|(figure, _)| figure == name), "{}: {name} is no figure", path().display());
            assert!(limit.at_most.is_some() != limit.at_least.is_some(), "{name} wants one of at_most and at_least");
        }
        limits
    }

    /// Holds the limits against what the compilers made, and tightens the exceptions to it.
    pub fn check(&mut self, reports: &[Report]) -> Found {
        let mut found = Found::default();
        let mut needed = Exceptions::new();
        for limit in &self.limit {
            let mut checked = 0;
            for report in reports {
                for row in report.rows.iter().filter(|row| limit.holds_of(&report.gpu, row)) {
                    let Some(&value) = row.figures.get(&limit.figure) else { continue };
                    checked += 1;
                    if limit.is_kept(value) {
                        continue;
                    }
                    let exception =
                        self.exceptions.get(&report.gpu).and_then(|rows| rows.get(&row.pipeline)?.get(&limit.figure));
                    if exception.is_none_or(|&exception| limit.is_worse(value, exception)) {
                        let before = exception.map(|value| format!(" ({value} as an exception)")).unwrap_or_default();
                        let (gpu, pipeline, figure) = (&report.gpu, &row.pipeline, &limit.figure);
                        found
                            .broken
                            .push(format!("{gpu}: {pipeline}: {figure} is {value}, not {}{before}", limit.text()));
                    }
                    let rows = needed.entry(report.gpu.clone()).or_default();
                    rows.entry(row.pipeline.clone()).or_default().insert(limit.figure.clone(), value);
                }
            }
            assert!(checked > 0, "{}: the limit of {} holds of nothing", path().display(), limit.figure);
        }
        found.better = better(&self.exceptions, &needed);
        self.exceptions = needed;
        found
    }

    /// Writes the exceptions as they are now; the limits stay as they stand.
    pub fn write(&self) {
        let text = std::fs::read_to_string(path()).unwrap();
        std::fs::write(path(), self.with_exceptions(&text)).unwrap();
    }

    fn with_exceptions(&self, text: &str) -> String {
        let start = text.find(EXCEPTIONS).unwrap_or_else(|| panic!("{} has no {EXCEPTIONS}", path().display()));
        let end = text[start..].find("\n\n").map_or(text.len(), |length| start + length);
        let mut text = text[..end].trim_end().to_owned() + "\n";
        for (gpu, rows) in &self.exceptions {
            writeln!(text, "\n[exceptions.{gpu}]").unwrap();
            for (pipeline, figures) in rows {
                let figures: Vec<String> =
                    figures.iter().map(|(figure, value)| format!("{figure} = {value}")).collect();
                writeln!(text, "\"{pipeline}\" = {{ {} }}", figures.join(", ")).unwrap();
            }
        }
        text
    }
}

/// The exceptions that are not as they are needed.
fn better(stand: &Exceptions, needed: &Exceptions) -> Vec<String> {
    let flat = |exceptions: &Exceptions| -> BTreeSet<String> {
        let rows = exceptions.iter().flat_map(|(gpu, rows)| rows.iter().map(move |(row, figures)| (gpu, row, figures)));
        rows.flat_map(|(gpu, row, figures)| {
            figures.iter().map(move |(figure, value)| format!("{gpu}: {row}: {figure} = {value}"))
        })
        .collect()
    };
    let needed = flat(needed);
    flat(stand).difference(&needed).map(|exception| format!("an exception that is too wide: {exception}")).collect()
}

#[test]
fn an_exception_may_become_better_and_not_worse() {
    let file = r#"
[[limit]]
figure = "spills"
at_most = 0
max_head_dim = 128

[[limit]]
figure = "occupancy"
at_least = 8
gpus = ["navi31"]
kernels = ["attention"]
head_dims = [64]

# Exceptions.

[exceptions.navi31]
"attention HEAD_DIM=64" = { occupancy = 6, spills = 2 }
"#;
    let row = |head_dim: u32, figures: &[(&str, f64)]| Row {
        kernel: "attention".to_owned(),
        pipeline: format!("attention HEAD_DIM={head_dim}"),
        head_dim: Some(head_dim),
        figures: figures.iter().map(|&(figure, value)| (figure.to_owned(), value)).collect(),
        seconds: 0.0,
    };
    let check = |spills: f64, occupancy: f64| {
        let rows = vec![row(64, &[("spills", spills), ("occupancy", occupancy)]), row(256, &[("spills", 9.0)])];
        let [gpu, name, driver] = ["navi31", "", ""].map(str::to_owned);
        let mut limits = Limits::parse(file);
        let found = limits.check(&[Report { gpu, name, driver, rows }]);
        (found.broken, found.better.len(), limits.with_exceptions(file))
    };
    let same = check(2.0, 6.0);
    assert_eq!((same.0, same.1, same.2.as_str()), (vec![], 0, file));
    let worse = check(3.0, 5.0).0;
    assert_eq!(worse[0], "navi31: attention HEAD_DIM=64: spills is 3, not at most 0 (2 as an exception)");
    assert_eq!(worse[1], "navi31: attention HEAD_DIM=64: occupancy is 5, not at least 8 (6 as an exception)");
    let better = check(0.0, 7.0);
    assert_eq!((better.0.len(), better.1), (0, 2));
    assert!(
        better.2.ends_with("# Exceptions.\n\n[exceptions.navi31]\n\"attention HEAD_DIM=64\" = { occupancy = 7 }\n")
    );
    assert!(check(0.0, 8.0).2.ends_with("# Exceptions.\n"));
}
