//! `dqo-wgpu merge`: a model directory from a base and adapters.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgMatches, Args};
use serde::{Deserialize, Serialize};

use super::config_file::{ConfigOption, merge};
use super::{Ended, print};
use crate::files::write_dir;
use crate::hub::model_dir;
use crate::model::{Adapter, WeightType, merge_adapter};

#[derive(Args)]
pub struct MergeArgs {
    #[command(flatten)]
    config: MergeConfig,
    #[command(flatten)]
    file: ConfigOption,
}

#[derive(Args, Serialize, Deserialize)]
struct MergeConfig {
    /// The base: a Hugging Face directory, or an id such as Qwen/Qwen2-0.5B-Instruct
    #[arg(long, value_name = "DIR|ID", value_parser = NonEmptyStringValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The adapters of a policy or a value network: a PEFT directory
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<PathBuf>,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    /// How weights are stored [default: as the base's; bf16 rounds what adapters add, f32 keeps it]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<WeightType>,
}

pub fn run(args: MergeArgs, matches: &ArgMatches) -> Result<Ended> {
    let MergeConfig { model, adapter, output, dtype } = merge(args.config, matches)?;
    let model = model.context("--model is missing")?;
    let adapter = adapter.context("--adapter is missing")?;
    let output = output.context("--output is missing")?;
    ensure!(!output.exists(), "{}: exists already; choose another --output", output.display());
    let source = model_dir(&model)?;
    let adapter = Adapter::open(&adapter)?;
    let dtype = dtype.map(WeightType::in_files);
    write_dir(&output, |dir| merge_adapter(&source, &adapter, dtype, dir))?;
    print(output.display());
    Ok(Ended::Done)
}
