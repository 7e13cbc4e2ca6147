//! `dqo-wgpu merge`: a model directory from a base and adapters.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{Ended, print};
use crate::files::write_dir;
use crate::hub::model_dir;
use crate::model::{Adapter, WeightType, merge_adapter};

#[derive(Args)]
pub struct MergeArgs {
    /// The base: a Hugging Face directory, or an id such as Qwen/Qwen2-0.5B-Instruct
    #[arg(long, value_name = "DIR|ID", value_parser = NonEmptyStringValueParser::new())]
    model: String,
    /// The adapters of a policy or a value network: a PEFT directory
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// How weights are stored [default: as the base's; bf16 rounds what adapters add, f32 keeps it]
    #[arg(long, value_enum)]
    dtype: Option<WeightType>,
}

pub fn run(args: &MergeArgs) -> Result<Ended> {
    let output = &args.output;
    ensure!(!output.exists(), "{}: exists already; choose another --output", output.display());
    let source = model_dir(&args.model)?;
    let adapter = Adapter::open(&args.adapter)?;
    let dtype = args.dtype.map(WeightType::in_files);
    write_dir(output, |dir| merge_adapter(&source, &adapter, dtype, dir))?;
    print(output.display());
    Ok(Ended::Done)
}
