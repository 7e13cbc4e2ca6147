//! `dqo-wgpu bench`: every kernel's time, share of the limit, and error; or a whole training step; or what compiling takes.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{ArgMatches, Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config_file::{ConfigOption, merge};
use super::{Ended, interrupt, print};
use crate::benches::case::Case;
use crate::benches::decode::Weights;
use crate::benches::host::HostWork;
use crate::benches::large::large_of;
use crate::benches::limits::Yardsticks;
use crate::benches::shape::Shape;
use crate::benches::step::StepModel;
use crate::benches::table::Peaks;
use crate::benches::{CASES, Cases, decode, pipelines, step, table};
use crate::device::Device;
use crate::gpu::BuiltPipeline;
use crate::model::{DeviceOptions, WeightOptions};
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
    /// With --decode: the model [default: random weights]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<PathBuf>,
    /// With --decode: sequences that are decoded together
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=MAX_BATCH as i64))]
    batch_size: u16,
    /// Which rows of the table [default: all on a GPU, small on a CPU and an adapter that is one]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Rows>,
    /// With --step or --decode: whose shape the model of random weights has [default: small, and 135m to decode]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<Shape>,
    #[command(flatten)]
    #[serde(flatten)]
    weights: WeightOptions,
    /// With --step: the rank of adapters to train in place of the weights; 0 for none
    #[arg(long, value_name = "RANK", default_value_t = 0)]
    lora_r: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rows {
    /// Tensors that a CPU is done with soon
    Small,
    /// Shapes of models of 0.5 and 7 billion weights, and tensors that no cache holds
    Large,
    All,
}

pub fn run(args: BenchArgs, matches: &ArgMatches) -> Result<Ended> {
    let BenchArgs { config, json, markdown, .. } = args;
    let config: BenchConfig = merge(config, matches)?;
    count("--batch-size", config.batch_size.into(), MAX_BATCH)?;
    if config.compile_only {
        run_compiler(&config.device.open_compiler()?, config.kernel.as_deref(), json)?;
        return Ok(Ended::Done);
    }
    let BenchConfig { device, kernel, step, decode, model, batch_size, rows, shape, weights, lora_r, .. } = config;
    let device = device.open(weights.dtype.precision())?;
    if decode {
        let random = Weights::Random(shape.unwrap_or(Shape::M135));
        let of = model.as_deref().map_or(random, Weights::Of);
        run_decode(&device, of, weights, batch_size.into(), json)?;
    } else if step {
        run_step(&device, StepModel { shape: shape.unwrap_or(Shape::Small), weights, lora_r }, json)?;
    } else {
        let rows = rows.unwrap_or(if device.is_real_gpu() { Rows::All } else { Rows::Small });
        run_kernels(&device, kernel.as_deref(), rows, json, markdown)?;
    }
    Ok(if interrupt::is_requested() { Ended::Interrupted } else { Ended::Done })
}

/// What was measured, behind what it was measured on.
fn print_json(device: &Device, measured: Value) {
    let (version, interrupted) = (env!("CARGO_PKG_VERSION"), interrupt::is_requested());
    let mut result = json!({ "version": version, "interrupted": interrupted, "device": device.description() });
    if let (Value::Object(result), Value::Object(measured)) = (&mut result, measured) {
        result.extend(device.as_gpu().map(|gpu| ("adapter".to_owned(), gpu.about().into())));
        result.extend(measured);
    }
    print(result);
}

fn run_decode(device: &Device, of: Weights, stored: WeightOptions, batch_size: usize, json: bool) -> Result<()> {
    let decode = decode::measure(device, of, stored.storage(), batch_size)?;
    if json {
        print_json(
            device,
            json!({
                "weights": of, "dtype": stored.dtype, "base": stored.base, "base_head": stored.base_head, "decode": decode,
            }),
        );
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

fn run_step(device: &Device, model: StepModel, json: bool) -> Result<()> {
    let step = step::measure(device, model, interrupt::listen()?)?;
    if json {
        let (sequences, tokens) = model.shape.step();
        let config = model.shape.json();
        let of = json!({ "model": model, "config": config, "sequences": sequences, "tokens": tokens, "step": step });
        print_json(device, of);
        return Ok(());
    }
    print(format_args!("{}: {:.1} GFLOP/s of fused multiply-adds", device.description(), step.peak_flops / 1e9));
    print(format_args!(
        "a training step: {:.3} s, {:.0} tokens/s, {:.1} GFLOP/s by {} x parameters x tokens: {:.0} % of the peak",
        step.seconds,
        step.tokens_per_second,
        step.flops / 1e9,
        model.flops_per_weight(),
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
    let kernels = kernels(name)?;
    if !json {
        print(format_args!("{}: what it takes to build each pipeline\n", device.description()));
    }
    let mut rows = Vec::new();
    pipelines::build_all(device, kernels, |built| {
        if !json {
            print(format_args!("{:>8.1} ms  {}", 1e3 * built.seconds, built.name()));
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

fn run_kernels(device: &Device, name: Option<&str>, rows: Rows, json: bool, markdown: bool) -> Result<()> {
    let kernels = kernels(name)?;
    interrupt::listen()?;
    let mut yardsticks = Yardsticks::new(device)?;
    let peaks = Peaks { flops: yardsticks.flops()?, bytes: yardsticks.bytes()? };
    if !json {
        print(format_args!(
            "{}: {:.1} GFLOP/s of fused multiply-adds, {:.1} GB/s of copying\n",
            device.description(),
            peaks.flops / 1e9,
            peaks.bytes / 1e9
        ));
        print(if markdown { table::MARKDOWN_HEAD.to_owned() } else { table::head() });
    }
    let mut table = Table { device, yardsticks, peaks, json, markdown, rows: Vec::new(), left_out: Vec::new() };
    for kernel in kernels {
        if rows != Rows::Large {
            table.measure((kernel.bench)().into_iter())?;
        }
        if rows != Rows::Small {
            table.measure(large_of(kernel.kernel))?;
        }
    }
    let Table { rows, left_out, .. } = table;
    if json {
        print_json(device, json!({ "limits": peaks, "kernels": rows, "left_out": left_out }));
    }
    Ok(())
}

/// The table, row by row.
struct Table<'a> {
    device: &'a Device,
    yardsticks: Yardsticks,
    peaks: Peaks,
    json: bool,
    markdown: bool,
    rows: Vec<table::Row>,
    left_out: Vec<Value>,
}

impl Table<'_> {
    /// Adds rows until the user asks to stop.
    fn measure(&mut self, cases: impl Iterator<Item = Case>) -> Result<()> {
        for case in cases {
            if interrupt::is_requested() {
                break;
            }
            if let Some(why) = table::too_large(self.device, &case, self.peaks) {
                self.left_out.push(json!({ "kernel": case.kernel, "shape": case.shape, "why": why }));
                if !self.json && !self.markdown {
                    print(format_args!("{:<29}{:<36}  left out: {why}", case.kernel, case.shape));
                }
                continue;
            }
            let row = table::row(self.device, &case, &mut self.yardsticks)?;
            if !self.json {
                print(if self.markdown { row.markdown() } else { row.line() });
            }
            self.rows.push(row);
        }
        Ok(())
    }
}
