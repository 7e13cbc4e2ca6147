//! `dqo-wgpu bench`: every kernel's time, share of the limit, and error; or a whole training step.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use super::{Ended, print};
use crate::benches::limits::Yardsticks;
use crate::benches::{CASES, Cases, decode, step, table};
use crate::device::{Device, Precision};
use crate::model::DeviceOptions;
use crate::sample::MAX_BATCH;

#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    device: DeviceOptions,
    /// Only the kernels whose name contains this
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// A whole training step in place of the kernels
    #[arg(long, conflicts_with_all = ["decode", "kernel", "markdown"])]
    step: bool,
    /// Decoding in place of the kernels
    #[arg(long, conflicts_with_all = ["kernel", "markdown"])]
    decode: bool,
    /// With --decode: the model [default: random weights in the shape of SmolLM2-135M]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// With --decode: sequences that are decoded together
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=MAX_BATCH as i64))]
    batch_size: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print the table of docs/kernels.md
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

pub fn run(args: &BenchArgs) -> Result<Ended> {
    let device = args.device.open(Precision::F32)?;
    if args.decode {
        run_decode(args, &device)?;
    } else if args.step {
        run_step(args, &device)?;
    } else {
        run_kernels(args, &device)?;
    }
    Ok(Ended::Done)
}

fn run_decode(args: &BenchArgs, device: &Device) -> Result<()> {
    let decode = decode::measure(device, args.model.as_deref(), args.batch_size.into())?;
    if args.json {
        print(json!({ "device": device.description(), "decode": decode }));
        return Ok(());
    }
    print(format_args!(
        "{}: {} sequences together, {:.1} ms a step, {:.0} tokens/s; {:.2} x its matrix products alone",
        device.description(),
        decode.batch,
        1e3 * decode.seconds,
        decode.tokens_per_second,
        decode.seconds / decode.product_seconds
    ));
    Ok(())
}

fn run_step(args: &BenchArgs, device: &Device) -> Result<()> {
    let step = step::measure(device, &mut Yardsticks::new(device)?)?;
    if args.json {
        print(json!({ "device": device.description(), "step": step }));
        return Ok(());
    }
    print(format_args!("{}: {:.1} GFLOP/s of fused multiply-adds", device.description(), step.peak_flops / 1e9));
    print(format_args!(
        "a training step: {:.3} s, {:.0} tokens/s, {:.1} GFLOP/s by 6 x parameters x tokens: {:.0} % of the peak",
        step.seconds,
        step.tokens_per_second,
        step.flops / 1e9,
        100.0 * step.share
    ));
    Ok(())
}

fn run_kernels(args: &BenchArgs, device: &Device) -> Result<()> {
    ensure!(args.kernel.as_deref() != Some(""), "--kernel is empty; give a part of a kernel's name, or leave it out");
    let wanted = |kernel: &&Cases| args.kernel.as_ref().is_none_or(|name| kernel.kernel.contains(name.as_str()));
    let kernels: Vec<&Cases> = CASES.iter().filter(wanted).collect();
    ensure!(
        !kernels.is_empty(),
        "--kernel {}: no kernel's name contains it",
        args.kernel.as_deref().unwrap_or_default()
    );
    let mut yardsticks = Yardsticks::new(device)?;
    let (flops, bytes) = (yardsticks.flops()?, yardsticks.bytes()?);
    if !args.json {
        print(format_args!(
            "{}: {:.1} GFLOP/s of fused multiply-adds, {:.1} GB/s of copying\n",
            device.description(),
            flops / 1e9,
            bytes / 1e9
        ));
        print(if args.markdown { table::MARKDOWN_HEAD.to_owned() } else { table::head() });
    }
    let mut rows = Vec::new();
    for case in kernels.iter().flat_map(|kernel| (kernel.bench)()) {
        let row = table::row(device, &case, &mut yardsticks)?;
        if !args.json {
            print(if args.markdown { row.markdown() } else { row.line() });
        }
        rows.push(row);
    }
    if args.json {
        let limits = json!({ "flops": flops, "bytes": bytes });
        print(json!({ "device": device.description(), "limits": limits, "kernels": rows }));
    }
    Ok(())
}
