//! `dqo-wgpu eval`: how many problems a policy solves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::Result;
use clap::{ArgMatches, Args};

use super::config_file::{ConfigOption, merge};
use super::{Ended, interrupt, print_of};
use crate::ranks::Ranks;
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

pub fn run(args: EvalArgs, matches: &ArgMatches, ranks: &Ranks) -> Result<Ended> {
    let config = merge(args.config, matches)?;
    let interrupt = interrupt::listen()?;
    let output = config.output.clone().unwrap_or_default();
    let Some(summary) = eval(&config, ranks, || !interrupt.load(Ordering::Relaxed))? else {
        return Ok(Ended::Interrupted);
    };
    if args.json {
        print_of(&output, serde_json::to_string(&summary)?);
    } else {
        show(&summary, &output);
    }
    Ok(Ended::Done)
}

fn show(summary: &EvalSummary, output: &Path) {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let [low, high] = summary.interval.map(percent);
    let accuracy = percent(summary.accuracy);
    print_of(output, format_args!("accuracy {accuracy}, 95 % interval {low} to {high}"));
    if let Some(error) = summary.standard_error {
        let error = percent(error);
        print_of(output, format_args!("over {} seeds, standard error {error}", summary.by_seed.len()));
        rows("seed", &summary.by_seed, output);
    }
    rows("level", &summary.by_level, output);
    rows("subject", &summary.by_subject, output);
}

fn rows<K: ToString>(title: &str, scores: &BTreeMap<K, Score>, output: &Path) {
    for (name, Score { right, count, accuracy }) in scores {
        let (name, percent) = (name.to_string(), 100.0 * accuracy);
        print_of(output, format_args!("  {title} {name:<24} {right:>5} of {count:>5}  {percent:>6.2} %"));
    }
}
