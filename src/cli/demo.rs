//! `dqo-wgpu demo`: the whole loop on an embedded model and task.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Ended, interrupt, print};
use crate::demo::{self, DemoConfig};
use crate::report::Measured;

#[derive(Args)]
pub struct DemoArgs {
    /// Where to run: auto, gpu, cpu, or an adapter's number or name (see `devices`)
    #[arg(long, default_value = "auto")]
    device: String,
    /// The seed of everything random
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Passes over the rollouts
    #[arg(long, default_value_t = 4)]
    num_train_epochs: usize,
    /// Only the first sums, this many [default: all]
    #[arg(long)]
    max_problems: Option<usize>,
    /// Where everything is written
    #[arg(long, value_name = "DIR", default_value = "demo")]
    output_dir: PathBuf,
}

pub fn run(args: &DemoArgs) -> Result<Ended> {
    let interrupt = interrupt::listen()?;
    let config = DemoConfig {
        device: args.device.clone(),
        seed: args.seed,
        num_train_epochs: args.num_train_epochs,
        max_problems: args.max_problems,
        output_dir: args.output_dir.clone(),
    };
    let Some(result) = demo::run(&config, interrupt)? else { return Ok(Ended::Interrupted) };
    print(format_args!("{:>10}{:>10}{:>10}{:>12}", "accuracy", "before", "after", "change"));
    for Measured { name, before, after, standard_error } in &result.measured {
        let [before, after, change, error] = [*before, *after, after - before, *standard_error].map(|x| 100.0 * x);
        print(format_args!("{name:>10}{before:>8.1} %{after:>8.1} %{change:>+10.1} ± {error:.1}"));
    }
    print(format_args!("the policy and the value network are in {}/final", result.run.display()));
    print(format_args!("the curves, and values along responses, are in {}", result.report.display()));
    Ok(Ended::Done)
}
