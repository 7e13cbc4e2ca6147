//! `dqo-wgpu plan`: the memory and the steps of a run, before anything is allocated.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{ArgMatches, Args};

use super::Ended;
use super::merge::merge;
use crate::train::{Run, TrainConfig};

#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    config: TrainConfig,
    /// Options from a file, such as the config.toml of another run; what is typed wins
    #[arg(long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: PlanArgs, matches: &ArgMatches) -> Result<Ended> {
    let mut config = merge(args.config, matches, args.file.as_deref())?;
    // A plan writes nothing, so it needs no place for it.
    config.output_dir.get_or_insert_default();
    let plan = Run::open(config)?.plan()?;
    if args.json {
        println!("{}", serde_json::to_string(&plan)?);
    } else {
        println!("{plan}\n");
        for buffer in &plan.buffers {
            println!("{:>12}  {}", crate::format_bytes(buffer.bytes), buffer.name);
        }
    }
    ensure!(!plan.exceeds_device(), "the run does not fit the device");
    Ok(Ended::Done)
}
