//! `dqo-wgpu export`: a model, or adapters, as a GGUF file.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgMatches, Args};
use serde::{Deserialize, Serialize};

use super::config_file::{ConfigOption, merge};
use super::merge::check_output;
use super::{Ended, print};
use crate::hub::model_dir;
use crate::model::{Adapter, GgufType, export_adapter, export_model};

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    config: ExportConfig,
    #[command(flatten)]
    file: ConfigOption,
}

#[derive(Args, Serialize, Deserialize)]
struct ExportConfig {
    /// The model: a Hugging Face directory, a GGUF file, or an id such as Qwen/Qwen2-0.5B-Instruct
    #[arg(long, value_name = "PATH|ID", value_parser = NonEmptyStringValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Write these adapters of a policy alone, for llama.cpp's --lora: a PEFT directory; the model is their base
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<PathBuf>,
    /// The file to make, NAME.gguf
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    /// How a model's matrices are stored [default: q8_0; adapters are f32]
    #[arg(long, value_enum, value_name = "TYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    gguf: Option<GgufType>,
}

pub fn run(args: ExportArgs, matches: &ArgMatches) -> Result<Ended> {
    let ExportConfig { model, adapter, output, gguf } = merge(args.config, matches)?;
    let model = model.context("--model is missing")?;
    let output = output.context("--output is missing")?;
    ensure!(adapter.is_none() || gguf.is_none(), "--gguf is a model's, and adapters are stored as f32; leave it out");
    check_output(&output, true)?;
    let source = model_dir(&model)?;
    match adapter {
        Some(adapter) => export_adapter(&source, &Adapter::open(&adapter)?, &output)?,
        None => export_model(&source, None, gguf.unwrap_or(GgufType::Q8_0), &output)?,
    }
    print(output.display());
    Ok(Ended::Done)
}
