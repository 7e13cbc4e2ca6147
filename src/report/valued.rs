//! Given responses with V at every token and segment (Table 2 of the paper), and how far V and process rewards go
//! together (its Figure 2).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::correlation::{pearson, spearman};
use super::response::{Correlation, ValuedResponse, ValuedSegment, ValuedToken};
use crate::data::{Columns, Example, Examples, Row, RowFile, Text, Tokenizer};
use crate::files::InputFiles;
use crate::kernels::{Weights, for_each_return};
use crate::model::{DeviceOptions, ModelFiles, WeightOptions};
use crate::objective::range::{MOST_TOKENS, count};
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::sample::{Segment, split, split_lines};
use crate::train::{Scoring, Source, ValueScorer};

/// Which responses are looked at, and by what.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct ValuesConfig {
    /// The value network: a directory such as OUT/final/value
    #[arg(long, value_name = "DIR|ID", value_parser = NonEmptyStringValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value network's adapters, such as OUT/final/value of a run with --lora-r; --value is their base then
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Rows with a prompt and a response each, a JSON object a line
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub columns: Columns,
    #[command(flatten)]
    #[serde(flatten)]
    pub device: DeviceOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub weights: WeightOptions,
    /// Tokens a micro-batch
    #[arg(long, default_value_t = 2048)]
    pub tokens_per_micro_batch: usize,
    /// The lambda of the lambda-return that advantages are measured by
    #[arg(long, default_value_t = 1.0)]
    pub lambda: f64,
    /// The factor of process rewards in it
    #[arg(long, default_value_t = 1.0)]
    pub process_scale: f64,
}

impl ValuesConfig {
    /// `--value`, which a file may have given.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn value(&self) -> Result<&str> {
        self.value.as_deref().context("--value is missing")
    }

    /// `--data`, which a file may have given.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn data(&self) -> Result<&Path> {
        self.data.as_deref().context("--data is missing")
    }
}

/// The responses of a file, in its order.
pub struct ValuedResponses {
    pub responses: Vec<ValuedResponse>,
    /// Between V at the end of a segment and its process reward; where rows have them and they differ.
    pub correlation: Option<Correlation>,
}

/// Looks at the responses, a share of them on each rank.
///
/// # Errors
/// Names the option, or the file, line and field, that is wrong.
pub fn value_responses(config: &ValuesConfig, ranks: &Ranks) -> Result<ValuedResponses> {
    count("--tokens-per-micro-batch", config.tokens_per_micro_batch, MOST_TOKENS)?;
    ensure!((0.0..=1.0).contains(&config.lambda), "--lambda is {}; it must be from 0 to 1", config.lambda);
    let (value, data) = (config.value()?, config.data()?);
    let files = ModelFiles::open(value, config.adapter.as_deref())?;
    let ModelFiles { dir, config: model, tokenizer, adapter } = files;
    match (&adapter, &config.adapter) {
        (Some(adapter), Some(dir)) => adapter.need_value_network(&format!("--adapter {}", dir.display()))?,
        _ => model.need_value_network(&format!("--value {value}"))?,
    }
    ranks.agree_on(config, || {
        let inputs = InputFiles::default().with_model("--value", &dir)?.with_file("--data", data);
        config.adapter.iter().try_fold(inputs, |inputs, adapter| inputs.with_model("--adapter", adapter))
    })?;
    let file = RowFile::read_with(data, &config.columns)?;
    file.need_responses("values")?;
    let built = Examples::build(&file, &tokenizer, model.limits(), usize::MAX)?;
    built.check_context(&file, model.limits())?;
    let examples = built.examples;
    let device = config.device.open(config.weights.dtype.precision())?;
    let checkpoint = config.weights.open(&dir)?;
    let source = Source { config: &model, checkpoint: Some(&checkpoint), adapter: adapter.as_ref(), base: None };
    let (storage, tokens_per_micro_batch) = (config.weights.storage(), config.tokens_per_micro_batch);
    let scoring = Scoring { storage, tokens_per_micro_batch };
    let mut scorer = ValueScorer::new(&device, source, scoring, &examples)?.on_ranks(ranks);
    let mut progress = Progress::new("values", examples.len(), 0);
    let values = scorer.score(&examples, |rows| progress.advance(rows, ""))?;

    let rows = file.rows.iter().zip(&examples).zip(values);
    let responses = rows.map(|((row, example), values)| valued(row, example, &values, &tokenizer, config));
    let responses = responses.collect::<Result<Vec<_>>>()?;
    let correlation = correlation(&responses);
    Ok(ValuedResponses { responses, correlation })
}

fn valued(
    row: &Row,
    example: &Example,
    values: &[f64],
    tokenizer: &Tokenizer,
    config: &ValuesConfig,
) -> Result<ValuedResponse> {
    let ids = &example.completion_ids;
    let last = ids.len() - 1;
    let step_reward = |t: usize| config.process_scale * example.step_rewards.get(t).copied().unwrap_or(0.0);
    let reward = |t: usize| step_reward(t) + if t == last { example.reward.unwrap_or(0.0) } else { 0.0 };
    let mut advantages = vec![0.0; ids.len()];
    let weights = Weights { lambda: config.lambda, paper_tail: false };
    for_each_return(0..ids.len(), reward, values, 0.0, weights, |step| advantages[step.t] = step.g - values[step.t]);

    let pieces = tokenizer.pieces(ids).with_context(|| format!("the response on line {}", row.line))?;
    let segments = steps(row, &pieces);
    let count = row.step_rewards.len() as f64;
    let is_rewarded = |end: usize| row.step_rewards.iter().any(|step| step.end == end);
    let segment = |Segment { text, first, end }| ValuedSegment {
        text,
        first,
        end,
        // After the last token there is no state: what is known at the end is V of the last one.
        value: values[end.min(last)],
        // A right segment's reward is 1 / n (section 4.4 of the paper): its score is 1.
        process_reward: is_rewarded(end).then(|| count * example.step_rewards[end - 1]),
    };
    let token = |(t, text)| ValuedToken {
        text,
        value: values[t],
        change: match t == last {
            false => values[t + 1] - values[t],
            true => example.reward.map_or(f64::NAN, |_| reward(t) - values[t]),
        },
        advantage: example.reward.map(|_| advantages[t]),
        step_reward: step_reward(t),
    };
    let segments: Vec<ValuedSegment> = segments.into_iter().map(segment).collect();
    let right = example.reward.map(|reward| reward > 0.5);
    let is_wrong = |segment: &ValuedSegment| segment.process_reward.is_some_and(|reward| reward <= 0.0);
    Ok(ValuedResponse {
        line: row.line,
        prompt: text_of(&row.prompt, tokenizer)?,
        first_wrong: if right == Some(true) { None } else { segments.iter().position(is_wrong) },
        segments,
        tokens: pieces.into_iter().enumerate().map(token).collect(),
        reward: example.reward,
        right,
    })
}

/// The segments that a row's process rewards were given for; where it has none, its paragraphs, or its lines where it is one
/// paragraph.
fn steps(row: &Row, pieces: &[String]) -> Vec<Segment> {
    let mut ends: Vec<usize> = row.step_rewards.iter().map(|step| step.end).collect();
    if ends.is_empty() {
        let paragraphs = split(pieces);
        return if paragraphs.len() > 1 { paragraphs } else { split_lines(pieces) };
    }
    ends.push(pieces.len());
    ends.sort_unstable();
    ends.dedup();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let segment = |(first, &end): (usize, &usize)| Segment { text: pieces[first..end].concat(), first, end };
    starts.zip(&ends).map(segment).collect()
}

fn text_of(prompt: &Text, tokenizer: &Tokenizer) -> Result<String> {
    let content = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    Ok(match prompt {
        Text::Plain(text) => text.clone(),
        Text::Messages(messages) => messages.iter().map(content).collect::<Vec<_>>().join("\n\n"),
        Text::Ids(ids) => tokenizer.decode(ids)?,
    })
}

fn correlation(responses: &[ValuedResponse]) -> Option<Correlation> {
    let segments = responses.iter().flat_map(|response| &response.segments);
    let pairs = segments.filter_map(|segment| Some((segment.process_reward?, segment.value)));
    let (rewards, values): (Vec<f64>, Vec<f64>) = pairs.unzip();
    Some(Correlation {
        pearson: pearson(&rewards, &values)?,
        spearman: spearman(&rewards, &values)?,
        count: rewards.len(),
    })
}
