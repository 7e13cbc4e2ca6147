//! `dqo-wgpu logp`: log-probs and entropies of given responses.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ArgMatches, Args};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config_file::{ConfigOption, merge};
use super::{Ended, print_of};
use crate::data::{Columns, Examples, RowFile};
use crate::files::{output_name, spare, write_file};
use crate::model::{ModelFiles, ModelOptions};
use crate::objective::range::{MOST_TOKENS, count};
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::train::{Scorer, Scoring, Source};

#[derive(Args)]
pub struct LogpArgs {
    #[command(flatten)]
    config: LogpConfig,
    #[command(flatten)]
    file: ConfigOption,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Serialize, Deserialize)]
struct LogpConfig {
    #[command(flatten)]
    #[serde(flatten)]
    model: ModelOptions,
    /// Rows with a prompt and a response each, a JSON object a line
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    columns: Columns,
    /// Where a row for each row goes: {"logps": [...], "entropies": [...]}
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    /// Tokens a micro-batch
    #[arg(long, default_value_t = 2048)]
    tokens_per_micro_batch: usize,
}

pub fn run(args: LogpArgs, matches: &ArgMatches, ranks: &Ranks) -> Result<Ended> {
    let config: LogpConfig = merge(args.config, matches)?;
    let settings = toml::Table::try_from(&config)?;
    let LogpConfig { model, data, columns, output, tokens_per_micro_batch } = config;
    count("--tokens-per-micro-batch", tokens_per_micro_batch, MOST_TOKENS)?;
    let data = data.context("--data is missing")?;
    let output = output.context("--output is missing")?;
    let ModelFiles { dir, config, tokenizer, adapter } = model.open()?;
    spare(&[&data, &dir], &output)?;
    ranks.agree_on(&settings, || Ok(model.input_files(&dir)?.with_file("--data", &data)))?;
    let file = RowFile::read_with(&data, &columns)?;
    file.need_responses("logp")?;
    let built = Examples::build(&file, &tokenizer, config.limits(), usize::MAX)?;
    built.check_context(&file, config.limits())?;
    let examples = built.examples;
    let device = model.open_device()?;
    let checkpoint = model.weights.open(&dir)?;
    let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: adapter.as_ref(), base: None };
    let scoring = Scoring { storage: model.weights.storage(), tokens_per_micro_batch };
    let mut scorer = Scorer::new(&device, source, "policy", scoring, &examples)?.on_ranks(ranks);

    let mut progress = Progress::new("logp", examples.len(), 0);
    let mut rows = Vec::new();
    scorer.score(&examples, |_, scored| {
        progress.advance(scored.len(), "");
        for row in scored {
            writeln!(rows, "{}", json!({ "logps": row.logps, "entropies": row.entropies }))?;
        }
        Ok(())
    })?;
    if ranks.is_first() {
        write_file(&output, &rows).context("the log-probs")?;
    }
    if args.json {
        print_of(&output, json!({ "output": output, "rows": examples.len() }));
    } else {
        print_of(&output, output_name(&output));
    }
    Ok(Ended::Done)
}
