//! `dqo-wgpu plan`: the memory and the steps of a run, before anything is allocated.

use anyhow::{Result, ensure};
use clap::{ArgMatches, Args};

use super::config_file::{ConfigOption, merge_training};
use super::{Ended, print};
use crate::format::format_bytes;
use crate::objective::range::{MOST_ROWS, at_least_one, count};
use crate::train::{MethodArgs, Run, TrainConfig};

#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    config: TrainConfig,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    file: ConfigOption,
    /// Of one of so many ranks that train together
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    ranks: usize,
    /// List every buffer too
    #[arg(long)]
    buffers: bool,
    /// Print one JSON object, with every buffer
    #[arg(long, conflicts_with = "buffers")]
    json: bool,
}

pub fn run(args: PlanArgs, matches: &ArgMatches) -> Result<Ended> {
    count("--ranks", args.ranks, MOST_ROWS)?;
    let settings = merge_training(args.config, args.method, matches)?;
    let model = settings.config.model.clone();
    let plan = Run::open_to_plan(settings, |_| model.open_device())?.plan_on(args.ranks)?;
    if args.json {
        print(serde_json::to_string(&plan)?);
    } else {
        print(&plan);
        let buffers = if args.buffers { &plan.buffers[..] } else { &[] };
        for buffer in buffers {
            print(format_args!("{:>12}  {}", format_bytes(buffer.bytes), buffer.name));
        }
    }
    ensure!(!plan.exceeds_device(), "the run does not fit the device");
    Ok(Ended::Done)
}
