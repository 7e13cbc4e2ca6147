//! `dqo-wgpu logp`: log-probs and entropies of given responses.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use super::{Ended, print};
use crate::data::{Examples, RowFile, Tokenizer};
use crate::files::write_file;
use crate::gpu::DeviceChoice;
use crate::hub::model_dir;
use crate::model::WeightType;
use crate::model::{Adapter, Checkpoint, ModelConfig};
use crate::progress::Progress;
use crate::self_test::open_device;
use crate::train::{Scorer, Source};

#[derive(Args)]
pub struct LogpArgs {
    /// The policy: a Hugging Face directory, or an id such as Qwen/Qwen2-0.5B-Instruct
    #[arg(long, value_name = "DIR|ID")]
    model: String,
    /// Adapters over the model: a PEFT directory
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Rows with a prompt and a response each, a JSON object a line
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where a row for each row goes: {"logps": [...], "entropies": [...]}
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Where to run: auto, gpu, cpu, or an adapter's number or name (see `devices`)
    #[arg(long, default_value = "auto")]
    device: String,
    /// How weights are stored
    #[arg(long, value_enum, default_value = "f32")]
    dtype: WeightType,
    /// Tokens a micro-batch
    #[arg(long, default_value_t = 2048)]
    tokens_per_micro_batch: usize,
}

pub fn run(args: &LogpArgs) -> Result<Ended> {
    ensure!(args.tokens_per_micro_batch > 0, "--tokens-per-micro-batch is 0; it must be at least 1");
    let dir = model_dir(&args.model)?;
    let config = ModelConfig::read(&dir)?;
    let tokenizer = Tokenizer::read(&dir, &config)?;
    let file = RowFile::read(&args.data)?;
    file.need_responses("logp")?;
    let built = Examples::build(&file, &tokenizer, &config, usize::MAX)?;
    built.check_context(&file, &config)?;
    let examples = built.examples;
    let device = open_device(&args.device.parse::<DeviceChoice>()?, args.dtype.precision())?;
    let checkpoint = Checkpoint::open(&dir)?;
    let adapter = args.adapter.as_deref().map(Adapter::open).transpose()?;
    let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: adapter.as_ref(), base: None };
    let size = (&examples[..], args.tokens_per_micro_batch);
    let mut scorer = Scorer::new(&device, source, "policy", args.dtype.storage(), size)?;

    let mut progress = Progress::new("logp", examples.len(), 0);
    let mut output = Vec::new();
    scorer.score(&examples, |_, scored| {
        progress.advance(scored.len(), "");
        for row in scored {
            writeln!(output, "{}", json!({ "logps": row.logps, "entropies": row.entropies }))?;
        }
        Ok(())
    })?;
    write_file(&args.output, &output).context("the log-probs")?;
    print(args.output.display());
    Ok(Ended::Done)
}
