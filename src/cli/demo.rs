//! `dqo-wgpu demo`: DQO on an embedded model, and what it changed.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Ended, interrupt, print};
use crate::demo;
use crate::device::{DeviceChoice, Precision};
use crate::train::Outcome;

#[derive(Args)]
pub struct DemoArgs {
    /// Where to run: auto, gpu, cpu, or an adapter's number or name (see `devices`)
    #[arg(long, default_value = "auto")]
    device: String,
    /// Where the run is written
    #[arg(long, value_name = "DIR", default_value = "demo")]
    output_dir: PathBuf,
    /// Passes over the embedded rollouts
    #[arg(long, default_value_t = 12)]
    num_train_epochs: usize,
}

pub fn run(args: &DemoArgs) -> Result<Ended> {
    let interrupt = interrupt::listen()?;
    let device = args.device.parse::<DeviceChoice>()?.open(Precision::F32)?;
    let result = demo::run(&device, &args.output_dir, args.num_train_epochs, interrupt)?;
    if let Outcome::Interrupted(_) = result.outcome {
        return Ok(Ended::Interrupted);
    }
    print(format_args!("{result}"));
    Ok(Ended::Done)
}
