//! `dqo-wgpu demo`: the whole loop on an embedded model and task.

use anyhow::Result;
use clap::{ArgMatches, Args};

use super::config_file::{ConfigOption, merge};
use super::{Ended, interrupt, print};
use crate::demo::{self, DemoConfig};
use crate::progress::say;
use crate::report::Measured;

#[derive(Args)]
pub struct DemoArgs {
    #[command(flatten)]
    config: DemoConfig,
    #[command(flatten)]
    file: ConfigOption,
    /// Go on with a demo that was interrupted in --output-dir
    #[arg(long)]
    resume: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: DemoArgs, matches: &ArgMatches) -> Result<Ended> {
    let config = merge(args.config, matches)?;
    let interrupt = interrupt::listen()?;
    let Some(result) = demo::run(&config, args.resume, interrupt)? else {
        say("interrupted; --resume goes on from there");
        return Ok(Ended::Interrupted);
    };
    if args.json {
        print(serde_json::to_string(&result)?);
        return Ok(Ended::Done);
    }
    print(format_args!("{:>10}{:>10}{:>10}{:>12}", "accuracy", "before", "after", "change"));
    for Measured { name, before, after, standard_error } in &result.measured {
        let [before, after, change, error] = [*before, *after, after - before, *standard_error].map(|x| 100.0 * x);
        print(format_args!("{name:>10}{before:>8.1} %{after:>8.1} %{change:>+10.1} ± {error:.1}"));
    }
    print(format_args!("the policy and the value network are in {}/final", result.run.display()));
    print(format_args!("the curves, and values along responses, are in {}", result.report.display()));
    Ok(Ended::Done)
}
