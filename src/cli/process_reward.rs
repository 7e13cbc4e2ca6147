//! `dqo-wgpu process-reward`: which steps of each response still led to a right answer.

use anyhow::Result;
use clap::{ArgMatches, Args};

use super::config_file::{ConfigOption, merge};
use super::{Ended, interrupt, print_of};
use crate::files::output_name;
use crate::ranks::Ranks;
use crate::sample::{ProcessRewardConfig, process_reward};

#[derive(Args)]
pub struct ProcessRewardArgs {
    #[command(flatten)]
    config: ProcessRewardConfig,
    #[command(flatten)]
    file: ConfigOption,
    /// Go on with an output that a run was interrupted in
    #[arg(long)]
    resume: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: ProcessRewardArgs, matches: &ArgMatches, ranks: &Ranks) -> Result<Ended> {
    let config = merge(args.config, matches)?;
    let interrupt = interrupt::listen()?;
    let summary = process_reward(&config, args.resume, ranks, interrupt)?;
    let output = config.output.unwrap_or_default();
    if args.json {
        print_of(&output, serde_json::to_string(&summary)?);
    } else {
        print_of(&output, format_args!("{}: {} rows", output_name(&output), summary.rows));
        print_of(
            &output,
            format_args!("{} of {} wrong responses have right steps", summary.with_right_steps, summary.wrong),
        );
    }
    Ok(if summary.interrupted { Ended::Interrupted } else { Ended::Done })
}
