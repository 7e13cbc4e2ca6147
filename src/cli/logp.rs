//! `dqo-wgpu logp`: log-probs and entropies of given responses.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::{Ended, print_of};
use crate::data::{Examples, RowFile};
use crate::files::{spare, write_file};
use crate::model::{Checkpoint, ModelFiles, ModelOptions};
use crate::objective::range::{MOST_TOKENS, count};
use crate::progress::Progress;
use crate::train::{Scorer, Scoring, Source};

// There is no file that could name the model.
#[derive(Args)]
#[command(mut_arg("model", |model| model.required(true)))]
pub struct LogpArgs {
    #[command(flatten)]
    model: ModelOptions,
    /// Rows with a prompt and a response each, a JSON object a line
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where a row for each row goes: {"logps": [...], "entropies": [...]}
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Tokens a micro-batch
    #[arg(long, default_value_t = 2048)]
    tokens_per_micro_batch: usize,
}

pub fn run(args: &LogpArgs) -> Result<Ended> {
    count("--tokens-per-micro-batch", args.tokens_per_micro_batch, MOST_TOKENS)?;
    let ModelFiles { dir, config, tokenizer, adapter } = args.model.open()?;
    spare(&[&args.data, &dir], &args.output)?;
    let file = RowFile::read(&args.data)?;
    file.need_responses("logp")?;
    let built = Examples::build(&file, &tokenizer, config.limits(), usize::MAX)?;
    built.check_context(&file, config.limits())?;
    let examples = built.examples;
    let device = args.model.open_device()?;
    let checkpoint = Checkpoint::open(&dir)?;
    let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: adapter.as_ref(), base: None };
    let (dtype, tokens_per_micro_batch) = (args.model.dtype.storage(), args.tokens_per_micro_batch);
    let scoring = Scoring { dtype, tokens_per_micro_batch };
    let mut scorer = Scorer::new(&device, source, "policy", scoring, &examples)?;

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
    print_of(&args.output, args.output.display());
    Ok(Ended::Done)
}
