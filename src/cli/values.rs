//! `dqo-wgpu values`: what a value network says along given responses.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{ArgMatches, Args};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config_file::{ConfigOption, merge};
use super::{Ended, print_of};
use crate::files::{input_name, is_stream, output_name, spare, write_file};
use crate::ranks::Ranks;
use crate::report::{RocArea, ValuedResponse, ValuesConfig, outcome_area, segment_area, value_responses, values_page};

#[derive(Args)]
pub struct ValuesArgs {
    #[command(flatten)]
    config: OutputConfig,
    #[command(flatten)]
    file: ConfigOption,
    /// Print the correlation with process rewards, and the areas under ROC curves, as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Serialize, Deserialize)]
struct OutputConfig {
    #[command(flatten)]
    #[serde(flatten)]
    values: ValuesConfig,
    /// A .jsonl file (or -) for a row for each row, or an .html file for a page to read
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
}

pub fn run(args: ValuesArgs, matches: &ArgMatches, ranks: &Ranks) -> Result<Ended> {
    let OutputConfig { values, output } = merge(args.config, matches)?;
    let output = output.context("--output is missing")?;
    let (value, data) = (values.value()?, values.data()?);
    let extension = output.extension().and_then(|extension| extension.to_str());
    let as_page = extension == Some("html");
    let as_rows = extension == Some("jsonl") || is_stream(&output);
    ensure!(as_page || as_rows, "--output {}: is neither .jsonl nor .html, nor - for rows", output.display());
    spare(&[data, Path::new(value)], &output)?;
    let valued = value_responses(&values, ranks)?;
    let correlation = valued.correlation.as_ref();
    let contents = if as_page {
        values_page(&format!("{value} on {}", input_name(data)), &valued.responses, correlation)
    } else {
        valued.responses.iter().map(|response| row(response).to_string() + "\n").collect()
    };
    if ranks.is_first() {
        write_file(&output, contents.as_bytes())?;
    }
    let (outcomes, segments) = (outcome_area(&valued.responses), segment_area(&valued.responses));
    if args.json {
        print_of(
            &output,
            json!({
                "rows": valued.responses.len(),
                "pearson": correlation.map(|correlation| correlation.pearson),
                "spearman": correlation.map(|correlation| correlation.spearman),
                "segments": correlation.map(|correlation| correlation.count),
                "outcome_auc": outcomes.map(|area| area.area),
                "segment_auc": segments.map(|area| area.area),
            }),
        );
        return Ok(Ended::Done);
    }
    print_of(&output, output_name(&output));
    for (what, area) in [
        ("V before the last token against whether the response is right", outcomes),
        ("V at the ends of segments against whether their process reward is above 0", segments),
    ] {
        if let Some(RocArea { area, right, wrong }) = area {
            print_of(
                &output,
                format_args!(
                    "{what}: area under the ROC curve {area:.3}, of {right} that are and {wrong} that are not"
                ),
            );
        }
    }
    if let Some(correlation) = correlation {
        print_of(
            &output,
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
