//! `dqo-wgpu eval`: how many problems a policy solves.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::Result;
use clap::{ArgMatches, Args};

use super::config_file::{ConfigOption, merge};
use super::{Ended, interrupt, print};
use crate::sample::{EvalConfig, EvalSummary, Score, eval};

#[derive(Args)]
pub struct EvalArgs {
    #[command(flatten)]
    config: EvalConfig,
    #[command(flatten)]
    file: ConfigOption,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: EvalArgs, matches: &ArgMatches) -> Result<Ended> {
    let config = merge(args.config, matches)?;
    let interrupt = interrupt::listen()?;
    let Some(summary) = eval(&config, || !interrupt.load(Ordering::Relaxed))? else {
        return Ok(Ended::Interrupted);
    };
    if args.json {
        print(serde_json::to_string(&summary)?);
    } else {
        show(&summary);
    }
    Ok(Ended::Done)
}

fn show(summary: &EvalSummary) {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let [low, high] = summary.interval.map(percent);
    print(format_args!("accuracy {}, 95 % interval {low} to {high}", percent(summary.accuracy)));
    if let Some(error) = summary.standard_error {
        print(format_args!("over {} seeds, standard error {}", summary.by_seed.len(), percent(error)));
        rows("seed", &summary.by_seed);
    }
    rows("level", &summary.by_level);
    rows("subject", &summary.by_subject);
}

fn rows<K: ToString>(title: &str, scores: &BTreeMap<K, Score>) {
    for (name, Score { right, count, accuracy }) in scores {
        print(format_args!("  {title} {:<24} {right:>5} of {count:>5}  {:>6.2} %", name.to_string(), 100.0 * accuracy));
    }
}
