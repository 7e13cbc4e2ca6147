//! `dqo-wgpu generate`: one response, as it is written.

use std::io::Write;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use clap::{ArgMatches, Args};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config_file::{ConfigOption, merge};
use super::{Ended, interrupt, print, print_text};
use crate::data::Text;
use crate::sample::{Generated, PolicyOptions, Request, SamplingSettings, Writer};

#[derive(Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    config: GenerateConfig,
    #[command(flatten)]
    file: ConfigOption,
    /// Print one JSON object at the end in place of the text as it grows
    #[arg(long)]
    json: bool,
}

#[derive(Args, Serialize, Deserialize)]
struct GenerateConfig {
    #[command(flatten)]
    #[serde(flatten)]
    policy: PolicyOptions,
    /// What is said to the model: a user's message, put through its chat template
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    /// Take the prompt as it is, without the chat template
    #[arg(long)]
    #[serde(default)]
    raw: bool,
    #[command(flatten)]
    #[serde(flatten)]
    sampling: SamplingSettings,
}

pub fn run(args: GenerateArgs, matches: &ArgMatches) -> Result<Ended> {
    let GenerateConfig { policy: options, prompt, raw, sampling } = merge(args.config, matches)?;
    sampling.check()?;
    let prompt = prompt.context("--prompt is missing")?;
    let prompt =
        if raw { Text::Plain(prompt) } else { Text::Messages(vec![json!({ "role": "user", "content": prompt })]) };
    let files = options.open()?;
    let prompt_ids = files.tokenizer.prompt(&prompt)?;
    files.config.limits().check_prompt(&prompt_ids, || "--prompt".to_owned())?;
    let Writer { tokenizer, policy, mut generator, .. } = options.load(files, &sampling, prompt_ids.len(), 1)?;

    let interrupt = interrupt::listen()?;
    let mut stream = tokenizer.stream()?;
    let step = |_, token| {
        let added = stream.push(token)?;
        if !args.json {
            print_text(&added);
        }
        Ok(!interrupt.load(Ordering::Relaxed))
    };
    let mut response = None;
    let finished = |generated: Generated| {
        response = Some(generated);
        Ok(true)
    };
    let request = Request { prompt_ids, seed: options.seed, stream: 0 };
    generator.run(&policy, [request], &sampling, step, finished)?;
    match response {
        Some(Generated { completion_ids, logps, finish, .. }) if args.json => print(json!({
            "completion": tokenizer.decode(&completion_ids)?,
            "completion_ids": completion_ids,
            "logps": logps,
            "finish_reason": finish.as_str(),
        })),
        _ => print(""),
    }
    std::io::stdout().flush().context("standard output cannot be written")?;
    Ok(if interrupt.load(Ordering::Relaxed) { Ended::Interrupted } else { Ended::Done })
}
