//! `dqo-wgpu bench`: every kernel's time, share of the limit, and error; or a whole training step; or what compiling takes.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{ArgMatches, Args};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config_file::{ConfigOption, merge};
use super::{Ended, print};
use crate::benches::host::HostWork;
use crate::benches::limits::Yardsticks;
use crate::benches::{CASES, Cases, decode, pipelines, step, table};
use crate::device::{Device, Precision};
use crate::gpu::BuiltPipeline;
use crate::model::DeviceOptions;
use crate::objective::range::count;
use crate::sample::MAX_BATCH;

#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    config: BenchConfig,
    #[command(flatten)]
    file: ConfigOption,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print the table of docs/kernels.md
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Args, Serialize, Deserialize)]
struct BenchConfig {
    #[command(flatten)]
    #[serde(flatten)]
    device: DeviceOptions,
    /// Only the kernels whose name contains this
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    /// A whole training step in place of the kernels
    #[arg(long)]
    step: bool,
    /// Decoding in place of the kernels
    #[arg(long)]
    decode: bool,
    /// Build every pipeline and run none, in place of the kernels' times; also on an adapter that computes wrongly
    #[arg(long)]
    compile_only: bool,
    /// With --decode: the model [default: random weights in the shape of SmolLM2-135M]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<PathBuf>,
    /// With --decode: sequences that are decoded together
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=MAX_BATCH as i64))]
    batch_size: u16,
}

pub fn run(args: BenchArgs, matches: &ArgMatches) -> Result<Ended> {
    let BenchArgs { config, json, markdown, .. } = args;
    let BenchConfig { device, kernel, step, decode, compile_only, model, batch_size } = merge(config, matches)?;
    count("--batch-size", batch_size.into(), MAX_BATCH)?;
    if compile_only {
        run_compiler(&device.open_compiler()?, kernel.as_deref(), json)?;
        return Ok(Ended::Done);
    }
    let device = device.open(Precision::F32)?;
    if decode {
        run_decode(&device, model.as_deref(), batch_size.into(), json)?;
    } else if step {
        run_step(&device, json)?;
    } else {
        run_kernels(&device, kernel.as_deref(), json, markdown)?;
    }
    Ok(Ended::Done)
}

fn run_decode(device: &Device, model: Option<&Path>, batch_size: usize, json: bool) -> Result<()> {
    let decode = decode::measure(device, model, batch_size)?;
    if json {
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
    print_host("a step of decoding", decode.host);
    Ok(())
}

fn run_step(device: &Device, json: bool) -> Result<()> {
    let step = step::measure(device, &mut Yardsticks::new(device)?)?;
    if json {
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
    print_host("the step", step.host);
    Ok(())
}

fn print_host(step: &str, host: Option<HostWork>) {
    if let Some(HostWork { dispatches, submissions, seconds }) = host {
        let milliseconds = 1e3 * seconds;
        print(format_args!(
            "{step} is {dispatches} dispatches in {submissions} submissions, and {milliseconds:.2} ms of the host's"
        ));
    }
}

fn run_compiler(device: &Device, name: Option<&str>, json: bool) -> Result<()> {
    let constants = |built: &BuiltPipeline| {
        built.constants.iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>()
    };
    let kernels = kernels(name)?;
    if !json {
        print(format_args!("{}: what it takes to build each pipeline\n", device.description()));
    }
    let mut rows = Vec::new();
    pipelines::build_all(device, kernels, |built| {
        if !json {
            print(format_args!("{:>8.1} ms  {}{}", 1e3 * built.seconds, built.label, constants(&built)));
        }
        rows.push(built);
    })?;
    let seconds: f64 = rows.iter().map(|built| built.seconds).sum();
    if json {
        let row = |built: &BuiltPipeline| {
            let constants: serde_json::Map<_, _> =
                built.constants.iter().map(|&(name, value)| (name.to_owned(), json!(value))).collect();
            json!({ "kernel": built.label, "constants": constants, "seconds": built.seconds })
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        print(json!({ "device": device.description(), "seconds": seconds, "pipelines": rows }));
    } else {
        print(format_args!("\n{} pipelines in {seconds:.2} s", rows.len()));
    }
    Ok(())
}

/// The kernels whose name contains this, or all.
fn kernels(name: Option<&str>) -> Result<Vec<&'static Cases>> {
    ensure!(name != Some(""), "--kernel is empty; give a part of a kernel's name, or leave it out");
    let wanted = |kernel: &&Cases| name.is_none_or(|name| kernel.kernel.contains(name));
    let kernels: Vec<_> = CASES.iter().filter(wanted).collect();
    ensure!(!kernels.is_empty(), "--kernel {}: no kernel's name contains it", name.unwrap_or_default());
    Ok(kernels)
}

fn run_kernels(device: &Device, name: Option<&str>, json: bool, markdown: bool) -> Result<()> {
    let kernels = kernels(name)?;
    let mut yardsticks = Yardsticks::new(device)?;
    let (flops, bytes) = (yardsticks.flops()?, yardsticks.bytes()?);
    if !json {
        print(format_args!(
            "{}: {:.1} GFLOP/s of fused multiply-adds, {:.1} GB/s of copying\n",
            device.description(),
            flops / 1e9,
            bytes / 1e9
        ));
        print(if markdown { table::MARKDOWN_HEAD.to_owned() } else { table::head() });
    }
    let mut rows = Vec::new();
    for case in kernels.iter().flat_map(|kernel| (kernel.bench)()) {
        let row = table::row(device, &case, &mut yardsticks)?;
        if !json {
            print(if markdown { row.markdown() } else { row.line() });
        }
        rows.push(row);
    }
    if json {
        let limits = json!({ "flops": flops, "bytes": bytes });
        print(json!({ "device": device.description(), "limits": limits, "kernels": rows }));
    }
    Ok(())
}
