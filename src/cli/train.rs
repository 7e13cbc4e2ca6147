//! `dqo-wgpu train`: a run, from the start or resumed.

use anyhow::Result;
use clap::{ArgMatches, Args};
use serde_json::json;

use super::config_file::{ConfigOption, merge_training};
use super::{Ended, interrupt, print};
use crate::progress::say;
use crate::ranks::Ranks;
use crate::train::{MethodArgs, Outcome, Run, TrainConfig, Watch};

#[derive(Args)]
pub struct TrainArgs {
    #[command(flatten)]
    config: TrainConfig,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    file: ConfigOption,
    /// Go on from the newest whole checkpoint in --output-dir
    #[arg(long)]
    resume: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: TrainArgs, matches: &ArgMatches, ranks: &Ranks) -> Result<Ended> {
    let settings = merge_training(args.config, args.method, matches)?;
    let run = Run::open(settings)?.on_ranks(ranks);
    // Not before: until then there is nothing to save, and Ctrl-C ends the process at once.
    let interrupt = interrupt::listen()?;
    match run.train(args.resume, Watch::on_stderr(interrupt))? {
        Outcome::Finished(dir) => {
            match args.json {
                true => print(json!({ "final": dir })),
                false => print(dir.display()),
            }
            Ok(Ended::Done)
        }
        Outcome::Interrupted(step) => {
            let place = step.map_or("before the first step".to_owned(), |step| format!("after step {step}"));
            say(format_args!("interrupted {place}; --resume goes on from there"));
            if args.json {
                print(json!({ "interrupted_after": step }));
            }
            Ok(Ended::Interrupted)
        }
    }
}
