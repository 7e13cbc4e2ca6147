//! `dqo-wgpu values`: what a value network says along given responses.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use super::{Ended, print_of};
use crate::files::{spare, write_file};
use crate::report::{ValuedResponse, ValuesConfig, value_responses, values_page};

#[derive(Args)]
pub struct ValuesArgs {
    #[command(flatten)]
    config: ValuesConfig,
    /// A .jsonl file for a row for each row, or an .html file for a page to read
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Print the correlation with process rewards as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ValuesArgs) -> Result<Ended> {
    let extension = args.output.extension().and_then(|extension| extension.to_str());
    let as_page = extension == Some("html");
    ensure!(as_page || extension == Some("jsonl"), "--output {}: is neither .jsonl nor .html", args.output.display());
    let ValuesConfig { value, data, .. } = &args.config;
    spare(&[data.as_path(), Path::new(value)], &args.output)?;
    let valued = value_responses(&args.config)?;
    let correlation = valued.correlation.as_ref();
    let contents = if as_page {
        values_page(&format!("{value} on {}", data.display()), &valued.responses, correlation)
    } else {
        valued.responses.iter().map(|response| row(response).to_string() + "\n").collect()
    };
    write_file(&args.output, contents.as_bytes())?;
    if args.json {
        print_of(
            &args.output,
            json!({
                "rows": valued.responses.len(),
                "pearson": correlation.map(|correlation| correlation.pearson),
                "spearman": correlation.map(|correlation| correlation.spearman),
                "segments": correlation.map(|correlation| correlation.count),
            }),
        );
        return Ok(Ended::Done);
    }
    print_of(&args.output, args.output.display());
    if let Some(correlation) = correlation {
        print_of(
            &args.output,
            format_args!(
                "V at the ends of {} segments against their process rewards: Pearson's correlation {:.3}, Spearman's {:.3}",
                correlation.count, correlation.pearson, correlation.spearman
            ),
        );
    }
    Ok(Ended::Done)
}

fn row(response: &ValuedResponse) -> serde_json::Value {
    let tokens = || response.tokens.iter();
    let segment = |segment: &crate::report::ValuedSegment| {
        json!({
            "text": segment.text,
            "first": segment.first,
            "end": segment.end,
            "value": segment.value,
            "process_reward": segment.process_reward,
        })
    };
    json!({
        "line": response.line,
        "reward": response.reward,
        "values": tokens().map(|token| token.value).collect::<Vec<_>>(),
        "advantages": tokens().map(|token| token.advantage).collect::<Option<Vec<_>>>(),
        "segments": response.segments.iter().map(segment).collect::<Vec<_>>(),
    })
}
