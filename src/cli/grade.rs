//! `dqo-wgpu grade`: rewards for rows that have an answer.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Ended, print_of};
use crate::grade::{Grading, MathEqual, Task};
use crate::sample::grade_file;

#[derive(Args)]
pub struct GradeArgs {
    /// How responses are graded
    #[arg(long, value_enum)]
    task: Task,
    /// Rows with a completion and an answer each
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where the rows go, with their rewards
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// GSM8K: take the last number of a response as its answer
    #[arg(long)]
    flexible: bool,
    /// MATH: when answers are equal
    #[arg(long, value_enum, default_value = "hendrycks")]
    math_equal: MathEqual,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &GradeArgs) -> Result<Ended> {
    let grading = Grading { flexible: args.flexible, math_equal: args.math_equal };
    let summary = grade_file(args.task, grading, &args.data, &args.output)?;
    if args.json {
        print_of(&args.output, serde_json::to_string(&summary)?);
    } else {
        let share = 100.0 * summary.right as f64 / summary.rows as f64;
        print_of(
            &args.output,
            format_args!(
                "{}: {} of {} rows are right: {share:.1} %",
                args.output.display(),
                summary.right,
                summary.rows
            ),
        );
        print_of(&args.output, format_args!("{} have no answer in the task's form", summary.without_answer));
    }
    Ok(Ended::Done)
}
