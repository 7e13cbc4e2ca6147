//! `dqo-wgpu sample`: responses to problems, graded, as rollouts for training.

use anyhow::Result;
use clap::{ArgMatches, Args};

use super::config_file::{ConfigOption, merge};
use super::{Ended, interrupt, print_of};
use crate::files::output_name;
use crate::ranks::Ranks;
use crate::sample::{SampleConfig, sample};

#[derive(Args)]
pub struct SampleArgs {
    #[command(flatten)]
    config: SampleConfig,
    #[command(flatten)]
    file: ConfigOption,
    /// Go on with an output that a run was interrupted in
    #[arg(long)]
    resume: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: SampleArgs, matches: &ArgMatches, ranks: &Ranks) -> Result<Ended> {
    let config = merge(args.config, matches)?;
    let interrupt = interrupt::listen()?;
    let summary = sample(&config, args.resume, ranks, interrupt)?;
    let output = config.output.unwrap_or_default();
    if args.json {
        print_of(&output, serde_json::to_string(&summary)?);
    } else {
        let rate = summary.tokens as f64 / summary.seconds.max(1e-9);
        print_of(&output, format!("{}: {} rows, {rate:.0} tokens/s", output_name(&output), summary.rows));
        if summary.graded > 0 {
            let share = 100.0 * summary.right as f64 / summary.graded as f64;
            print_of(&output, format!("{} of {} graded rows are right: {share:.1} %", summary.right, summary.graded));
        }
        print_of(&output, format!("{} rows have an end", summary.stopped));
    }
    Ok(if summary.interrupted { Ended::Interrupted } else { Ended::Done })
}
