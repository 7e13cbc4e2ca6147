//! Generation: against transformers' greedy decoding, against the log-probs of the finished rows, and against itself in
//! other company.

use std::path::{Path, PathBuf};

use dqo_wgpu::data::Example;
use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::model::{Build, Checkpoint, ModelConfig, Policy, Storage};
use dqo_wgpu::sample::{Finish, Generated, Generator, Request, SamplingSettings, Sizes};
use dqo_wgpu::train::{Scorer, Scoring, Source};
use serde_json::Value;

use crate::harness::{gpus, open_gpus};
use crate::model::{FAMILIES, golden, json_lines};

fn ids(row: &Value, name: &str) -> Vec<u32> {
    row[name].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Responses to prompts, `batch` at a time, in the order of the prompts.
fn generate(
    device: &Device,
    model: &Path,
    prompts: &[Vec<u32>],
    batch: usize,
    settings: SamplingSettings,
) -> Vec<Generated> {
    let config = ModelConfig::read(model).unwrap();
    let checkpoint = Checkpoint::open(model).unwrap();
    let longest = prompts.iter().map(Vec::len).max().unwrap();
    let sizes = Sizes { batch, prompt: longest, tokens: longest + settings.max_new_tokens };
    let storage = Storage::frozen(DType::Real);
    let build = Build::new(device, &config, Some(&checkpoint), "policy", storage);
    let policy = Policy::load(&build, sizes.tokens).unwrap();
    let mut generator = Generator::new(&build, config.eos_token_ids.clone(), sizes).unwrap();
    let requests =
        prompts.iter().zip(0..).map(|(prompt, stream)| Request { prompt_ids: prompt.clone(), seed: 7, stream });
    let mut responses = Vec::new();
    let keep = |response| {
        responses.push(response);
        Ok(true)
    };
    generator.run(&policy, requests, &settings, |_, _| Ok(true), keep).unwrap();
    responses.sort_by_key(|response| response.request);
    assert_eq!(responses.len(), prompts.len());
    responses
}

fn check_greedy(device: &Device, model: &Path, rows: &Path, max_new_tokens: usize, batches: &[usize]) {
    let rows = json_lines(rows);
    let prompts: Vec<Vec<u32>> = rows.iter().map(|row| ids(row, "prompt_ids")).collect();
    for &batch in batches {
        let responses = generate(device, model, &prompts, batch, SamplingSettings::greedy(max_new_tokens));
        for (row, response) in rows.iter().zip(responses) {
            let label = format!("{} on {}, {batch} at a time", model.display(), device.description());
            assert_eq!(response.completion_ids, ids(row, "completion_ids"), "{label}: response {}", response.request);
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let cpus = [Device::cpu(Precision::F64), Device::cpu(Precision::F32)];
    for device in cpus.iter().chain(gpus()) {
        for family in FAMILIES {
            let model = golden("models").join(family);
            check_greedy(device, &model, &model.join("greedy.jsonl"), 40, &[1, 4, 16]);
        }
    }
}

/// SmolLM2-135M-Instruct, where the machine has it: it is too large for this repository.
pub fn smollm2() -> Option<PathBuf> {
    let dir = std::env::var_os("DQO_SMOLLM2").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("DQO_SMOLLM2 names no directory of SmolLM2-135M-Instruct: a test of a real model was left out");
    }
    dir
}

#[test]
fn greedy_tokens_of_a_real_model_are_those_of_transformers() {
    let Some(model) = smollm2() else { return };
    let rows = golden("smollm2/greedy.jsonl");
    check_greedy(&Device::cpu(Precision::F32), &model, &rows, 64, &[1, 8]);
    for device in gpus().iter().take(1) {
        check_greedy(device, &model, &rows, 64, &[8]);
    }
}

/// Each costs the host some 2 us: a layer's are the products of queries, keys and values, their rotation, attention, its output,
/// gate and up, down; the rest are embedding, last norm, choice of rows, logits and token.
#[test]
fn a_decoded_token_takes_six_dispatches_a_layer_on_a_gpu() {
    // A device of this test's own: what others run meanwhile would count.
    let devices = open_gpus();
    let Some(device) = devices.iter().find(|device| device.is_real_gpu()) else { return };
    let dispatches = |family: &str, max_new_tokens| {
        let before = device.as_gpu().unwrap().activity().dispatches;
        let model = golden("models").join(family);
        let responses = generate(device, &model, &[vec![3; 5]], 1, SamplingSettings::greedy(max_new_tokens));
        assert_eq!(responses[0].completion_ids.len(), max_new_tokens, "{family} ended early");
        device.as_gpu().unwrap().activity().dispatches - before
    };
    // Biases of queries, keys and values are one more; two head norms, and two on what blocks add, four more.
    for (family, a_layer) in [("llama", 6), ("qwen2", 7), ("qwen3", 8)] {
        assert_eq!(dispatches(family, 8) - dispatches(family, 4), 4 * (2 * a_layer + 5), "{family}");
    }
}

fn prompts() -> Vec<Vec<u32>> {
    // Several responses to a prompt follow each other, as in sampling.
    let rows = json_lines(&golden("models/qwen3/greedy.jsonl"));
    rows.iter().flat_map(|row| vec![ids(row, "prompt_ids"); 3]).collect()
}

const WARM: SamplingSettings =
    SamplingSettings { temperature: 1.0, top_k: 40, top_p: 0.95, min_prob: 0.0, max_new_tokens: 30 };

#[test]
fn a_response_does_not_depend_on_its_company() {
    let model = golden("models/qwen3");
    for device in std::iter::once(&Device::cpu(Precision::F32)).chain(gpus()) {
        let together = generate(device, &model, &prompts(), 64, WARM);
        let lengths: Vec<usize> = together.iter().map(|response| response.completion_ids.len()).collect();
        assert!(lengths.iter().any(|&length| length < 30) && lengths.contains(&30), "{lengths:?}");
        assert!(together[0].completion_ids != together[1].completion_ids);
        for batch in [1, 5] {
            assert!(
                generate(device, &model, &prompts(), batch, WARM) == together,
                "{batch} on {}",
                device.description()
            );
        }
    }
}

#[test]
fn recorded_log_probs_are_those_of_the_finished_row() {
    let model = golden("models/qwen3");
    let config = ModelConfig::read(&model).unwrap();
    for device in std::iter::once(&Device::cpu(Precision::F32)).chain(gpus()) {
        let responses = generate(device, &model, &prompts(), 8, WARM);
        let examples: Vec<Example> = prompts()
            .into_iter()
            .zip(&responses)
            .map(|(prompt, response)| Example::of_ids(prompt, response.completion_ids.clone()))
            .collect();
        let checkpoint = Checkpoint::open(&model).unwrap();
        let source = Source { config: &config, checkpoint: Some(&checkpoint), adapter: None, base: None };
        let scoring = Scoring { storage: Storage::frozen(DType::Real), tokens_per_micro_batch: 512 };
        let mut scorer = Scorer::new(device, source, "policy", scoring, &examples).unwrap();
        scorer
            .score(&examples, |first, scored| {
                for (response, scored) in responses[first..].iter().zip(scored) {
                    let pairs = response.logps.iter().zip(&scored.logps);
                    let off = pairs.map(|(recorded, exact)| (recorded - exact).abs()).fold(0.0, f64::max);
                    assert!(off <= 1e-4, "{off:.1e} on {}", device.description());
                }
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn responses_end_at_an_end_token_or_at_their_limit() {
    let model = golden("models/qwen3");
    for response in generate(&Device::cpu(Precision::F32), &model, &prompts(), 8, WARM) {
        let ends: Vec<usize> =
            (0..response.completion_ids.len()).filter(|&t| response.completion_ids[t] == 2).collect();
        match response.finish {
            Finish::Stop => assert_eq!(ends, [response.completion_ids.len() - 1]),
            Finish::Length => assert!(ends.is_empty() && response.completion_ids.len() == 30),
        }
        assert_eq!(response.logps.len(), response.completion_ids.len());
    }
}
