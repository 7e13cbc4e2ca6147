//! `dqo-wgpu bench`: every kernel's time, share of the limit, and error; or a whole training step.

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use super::Ended;
use crate::benches::case::Case;
use crate::benches::limits::Yardsticks;
use crate::benches::{cases, step, table};
use crate::device::{DeviceChoice, Precision};

#[derive(Args)]
pub struct BenchArgs {
    /// Where to run: auto, gpu, cpu, or an adapter's number or name (see `devices`)
    #[arg(long, default_value = "auto")]
    device: String,
    /// Only the kernels whose name contains this
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// A whole training step in place of the kernels
    #[arg(long)]
    step: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print the table of the README
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

pub fn run(args: &BenchArgs) -> Result<Ended> {
    let device = args.device.parse::<DeviceChoice>()?.open(Precision::F32)?;
    let mut yardsticks = Yardsticks::new(&device)?;
    if args.step {
        let step = step::measure(&device, &mut yardsticks)?;
        if args.json {
            println!("{}", json!({ "device": device.description(), "step": step }));
            return Ok(Ended::Done);
        }
        println!("{}: {:.1} GFLOP/s of fused multiply-adds", device.description(), step.peak_flops / 1e9);
        println!(
            "a training step: {:.3} s, {:.0} tokens/s, {:.1} GFLOP/s by 6 x parameters x tokens: {:.0} % of the peak",
            step.seconds,
            step.tokens_per_second,
            step.flops / 1e9,
            100.0 * step.share
        );
        return Ok(Ended::Done);
    }

    let wanted = |case: &Case| args.kernel.as_ref().is_none_or(|name| case.kernel.contains(name.as_str()));
    let cases: Vec<Case> = cases().into_iter().filter(wanted).collect();
    ensure!(!cases.is_empty(), "--kernel {}: no kernel's name contains it", args.kernel.as_deref().unwrap_or_default());
    let (flops, bytes) = (yardsticks.flops()?, yardsticks.bytes()?);
    if !args.json {
        let device = device.description();
        println!("{device}: {:.1} GFLOP/s of fused multiply-adds, {:.1} GB/s of copying\n", flops / 1e9, bytes / 1e9);
    }
    if args.markdown {
        println!("{}", table::MARKDOWN_HEAD);
    } else if !args.json {
        println!("{:<29}{:<36}{:>11}{:>15}{:>9}{:>10}", "kernel", "shape", "time", "rate", "of limit", "error");
    }
    let mut rows = Vec::new();
    for case in &cases {
        let row = table::row(&device, case, &mut yardsticks)?;
        if args.markdown {
            println!("{}", row.markdown());
        } else if !args.json {
            let rate = format!("{:.2} G{}", row.rate / 1e9, row.unit);
            let (time, share) = (format!("{:.3} ms", 1e3 * row.seconds), format!("{:.0} %", 100.0 * row.share));
            println!("{:<29}{:<36}{time:>11}{rate:>15}{share:>9}{:>10.1e}", row.kernel, row.shape, row.error);
        }
        rows.push(row);
    }
    if args.json {
        let limits = json!({ "flops": flops, "bytes": bytes });
        println!("{}", json!({ "device": device.description(), "limits": limits, "kernels": rows }));
    }
    Ok(Ended::Done)
}
