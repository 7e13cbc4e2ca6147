//! `dqo-wgpu grade`: rewards for rows that have an answer.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ArgMatches, Args};
use serde::{Deserialize, Serialize};

use super::config_file::{ConfigOption, merge};
use super::{Ended, print_of};
use crate::data::Columns;
use crate::files::output_name;
use crate::grade::{Grading, MathEqual, Task};
use crate::sample::grade_file;

#[derive(Args)]
pub struct GradeArgs {
    #[command(flatten)]
    config: GradeConfig,
    #[command(flatten)]
    file: ConfigOption,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Serialize, Deserialize)]
struct GradeConfig {
    /// How responses are graded
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    /// Rows with a completion and an answer each
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    columns: Columns,
    /// Where the rows go, with their rewards
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    /// GSM8K: take the last number of a response as its answer
    #[arg(long)]
    flexible: bool,
    /// MATH: when answers are equal
    #[arg(long, value_enum, default_value = "hendrycks")]
    math_equal: MathEqual,
}

pub fn run(args: GradeArgs, matches: &ArgMatches) -> Result<Ended> {
    let GradeConfig { task, data, columns, output, flexible, math_equal } = merge(args.config, matches)?;
    let task = task.context("--task is missing")?;
    let data = data.context("--data is missing")?;
    let output = output.context("--output is missing")?;
    let summary = grade_file(task, Grading { flexible, math_equal }, &data, &columns, &output)?;
    if args.json {
        print_of(&output, serde_json::to_string(&summary)?);
    } else {
        let share = 100.0 * summary.right as f64 / summary.rows as f64;
        print_of(
            &output,
            format_args!(
                "{}: {} of {} rows are right: {share:.1} %",
                output_name(&output),
                summary.right,
                summary.rows
            ),
        );
        print_of(&output, format_args!("{} have no answer in the task's form", summary.without_answer));
    }
    Ok(Ended::Done)
}
