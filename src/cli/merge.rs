//! `dqo-wgpu merge`: a model, a directory or a GGUF file, from a base and adapters.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgMatches, Args};
use serde::{Deserialize, Serialize};

use super::config_file::{ConfigOption, merge};
use super::{Ended, print};
use crate::files::{is_gguf, write_dir};
use crate::hub::model_dir;
use crate::model::{Adapter, GgufType, WeightType, export_model, merge_adapter};

#[derive(Args)]
pub struct MergeArgs {
    #[command(flatten)]
    config: MergeConfig,
    #[command(flatten)]
    file: ConfigOption,
}

#[derive(Args, Serialize, Deserialize)]
struct MergeConfig {
    /// The base: a Hugging Face directory, a GGUF file, or an id such as Qwen/Qwen2-0.5B-Instruct
    #[arg(long, value_name = "PATH|ID", value_parser = NonEmptyStringValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The adapters of a policy or a value network: a PEFT directory
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<PathBuf>,
    /// The directory, or with --gguf the file, to make
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    /// How weights are stored [default: as the base's; bf16 rounds what adapters add, f32 keeps it]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<WeightType>,
    /// Write a GGUF file, llama.cpp's, with its matrices stored so
    #[arg(long, value_enum, value_name = "TYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    gguf: Option<GgufType>,
}

/// Refuses an output that is there, or a name by which a GGUF file would not be known, or a directory be taken for one.
pub(super) fn check_output(output: &Path, is_file: bool) -> Result<()> {
    ensure!(!output.exists(), "{}: exists already; choose another --output", output.display());
    match (is_file, is_gguf(output)) {
        (true, false) => bail!("{}: does not end in .gguf; choose another --output", output.display()),
        (false, true) => {
            bail!("{}: a GGUF file is written with --gguf TYPE; give it, or choose another --output", output.display())
        }
        _ => Ok(()),
    }
}

pub fn run(args: MergeArgs, matches: &ArgMatches) -> Result<Ended> {
    let MergeConfig { model, adapter, output, dtype, gguf } = merge(args.config, matches)?;
    let model = model.context("--model is missing")?;
    let adapter = adapter.context("--adapter is missing")?;
    let output = output.context("--output is missing")?;
    ensure!(
        gguf.is_none() || dtype.is_none(),
        "--dtype is the weights' of a directory, and --gguf writes a file; leave out one"
    );
    check_output(&output, gguf.is_some())?;
    let source = model_dir(&model)?;
    let adapter = Adapter::open(&adapter)?;
    let dtype = dtype.map(WeightType::in_files);
    match gguf {
        Some(gguf) => export_model(&source, Some(&adapter), gguf, &output)?,
        None => write_dir(&output, |dir| merge_adapter(&source, &adapter, dtype, dir))?,
    }
    print(output.display());
    Ok(Ended::Done)
}
