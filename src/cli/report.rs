//! `dqo-wgpu report`: runs side by side, as one HTML file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Ended, print_of};
use crate::files::{spare, write_file};

#[derive(Args)]
pub struct ReportArgs {
    /// Output directories of training runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Where the page goes
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

pub fn run(args: &ReportArgs) -> Result<Ended> {
    let read = |run: &PathBuf| ["config.toml", "metrics.jsonl", "final", "best"].map(|name| run.join(name));
    let inputs: Vec<_> = args.runs.iter().flat_map(read).collect();
    spare(&inputs, &args.output)?;
    let page = crate::report::report(&args.runs)?;
    write_file(&args.output, page.as_bytes())?;
    print_of(&args.output, args.output.display());
    Ok(Ended::Done)
}
