//! Building pipelines without running them: the cases reach every variant and all that runs launch, and what does not compile is
//! said in a line.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use dqo_wgpu::benches::CASES;
use dqo_wgpu::benches::case::MATRIX_TYPES;
use dqo_wgpu::benches::pipelines::build_all;
use dqo_wgpu::device::{DType, Device, Kernel, Real, Tensor, kernel};
use dqo_wgpu::gpu::{BuiltPipeline, Gpu, Launch, Needs, Settings, Subgroups, Traits, Variant};
use dqo_wgpu::kernels::{ALL, launch_flat, only};
use dqo_wgpu::model::{Build, ModelConfig, Policy, Storage};
use dqo_wgpu::sample::{Generator, Request, SamplingSettings, Sizes};
use dqo_wgpu::train::Watch;
use serde_json::json;
use wgpu::Features;

use crate::harness::{adapter, skip_gpu};
use crate::model::golden;
use crate::training::{config, open, with};

/// The labels of the pipelines that the cases build on an adapter with these traits.
fn labels(adapter: &wgpu::Adapter, traits: Traits) -> BTreeSet<String> {
    let settings = Settings { traits, ..Settings::of(adapter) };
    let device = Device::compiler(Gpu::open_with(adapter, settings).unwrap());
    let mut labels = BTreeSet::new();
    build_all(&device, CASES, |built| {
        labels.insert(built.label);
    })
    .unwrap();
    labels
}

#[test]
fn the_cases_build_every_variant() {
    if skip_gpu() {
        return;
    }
    let adapter = adapter();
    let has_subgroups = adapter.features().contains(Features::SUBGROUP);
    let on_gpu = |subgroups| Traits { subgroups, matrices: None, software: false };
    let mut traits = vec![on_gpu(Subgroups::Missing)];
    if has_subgroups {
        traits.extend([
            on_gpu(Subgroups::Varying),
            Traits { subgroups: Subgroups::OfSize(8), matrices: None, software: true },
        ]);
    }
    let built: BTreeSet<String> = traits.into_iter().flat_map(|traits| labels(&adapter, traits)).collect();
    let variants = ALL.iter().flat_map(|signature| signature.variants.iter().map(move |variant| (signature, variant)));
    let can_have = |needs| match needs {
        Needs::Nothing => true,
        Needs::Subgroups => has_subgroups,
        Needs::Matrices => false,
    };
    for (signature, variant) in variants.filter(|(_, variant)| can_have(variant.needs)) {
        let label = variant.label(signature);
        assert!(built.contains(&label), "{label}: no case launches it; add one to benches/{}.rs", signature.name);
    }
}

/// Decodes a few tokens of a model of these sizes, whose weights are stored so, on a device that only builds.
fn decode(device: &Device, sizes: serde_json::Value, storage: Storage) {
    let config = ModelConfig::of_json(sizes.as_object().unwrap().clone()).unwrap();
    let sizes = Sizes { batch: 16, prompt: 64, tokens: 66 };
    let build = Build::new(device, &config, None, "policy", storage);
    let policy = Policy::load(&build, sizes.tokens).unwrap();
    let mut generator = Generator::new(&build, Vec::new(), sizes).unwrap();
    for count in [1, 3, 16] {
        for temperature in [0.0, 1.0] {
            let requests: Vec<_> =
                (0..count).map(|stream| Request { prompt_ids: vec![1; 64], seed: 0, stream }).collect();
            let settings = SamplingSettings { temperature, ..SamplingSettings::greedy(2) };
            generator.run(&policy, requests, &settings, |_, _| Ok(true), |_| Ok(true)).unwrap();
        }
    }
}

/// What runs launch: decoding with the sizes of Qwen2-7B, Qwen2-0.5B and a Gemma, two layers of each, and training tiny models,
/// which ends where a step is found not to have been computed.
fn run_all(device: &Device) {
    let model = |family: &str, hidden: usize, intermediate: usize, [heads, kv_heads, head_dim]: [usize; 3]| {
        json!({
            "model_type": family, "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": 2,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim, "vocab_size": 152_064,
            "hidden_act": if family == "gemma" { "gelu_pytorch_tanh" } else { "silu" }, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": true, "max_position_embeddings": 4096,
        })
    };
    let head_in_blocks = Storage { head: Some(DType::Q8), ..Storage::frozen(DType::Q4) };
    for storage in MATRIX_TYPES.map(Storage::frozen).into_iter().chain([head_in_blocks]) {
        decode(device, model("qwen2", 3584, 18944, [28, 4, 128]), storage);
        decode(device, model("qwen2", 896, 4864, [14, 2, 64]), storage);
        decode(device, model("gemma", 2048, 16384, [8, 1, 256]), storage);
    }
    let dir = tempfile::tempdir().unwrap();
    for (set, options) in [
        ("dqo/qwen2", json!({})),
        ("dqo/gemma", json!({ "optimizer": "sgd" })),
        ("dqo/llama", json!({ "lora_r": 16, "value_model": null })),
        ("dqo/qwen3", json!({ "lora_r": 16, "value_model": null, "base": "q8" })),
        ("dqo/llama", json!({ "lora_r": 16, "value_model": null, "base": "q4" })),
    ] {
        let output = dir.path().join(format!("{}-{}", set.replace('/', "-"), options["base"]));
        let config = with(config(&golden(set), "rows.jsonl", &output), json!({ "max_steps": 1 }));
        let run = open(&with(config, options), device);
        let error = run.train(false, Watch::silent(&AtomicBool::new(false))).unwrap_err().to_string();
        assert!(error.starts_with("the device lost work in silence"), "{error}");
    }
}

/// Whether the pipeline is for heads as the cases have them: models that tests train have others.
fn is_of_known_heads(name: &str) -> bool {
    let is_of = |size: u32| name.split(' ').any(|part| part == format!("HEAD_DIM={size}"));
    !name.contains("HEAD_DIM=") || [64, 96, 128, 256].into_iter().any(is_of)
}

#[test]
fn the_cases_build_what_runs_launch() {
    if skip_gpu() {
        return;
    }
    let adapter = adapter();
    let natural = Settings::of(&adapter);
    for software in [false, true] {
        let settings = Settings { traits: Traits { software, ..natural.traits }, ..natural };
        let compiler = || Device::compiler(Gpu::open_with(&adapter, settings).unwrap());
        let mut of_cases = BTreeSet::new();
        build_all(&compiler(), CASES, |built| {
            of_cases.insert(built.name());
        })
        .unwrap();
        let device = compiler();
        run_all(&device);
        let of_runs = device.as_gpu().unwrap().built_since(0);
        assert!(of_runs.len() > 30, "{of_runs:?}");
        for name in of_runs.iter().map(BuiltPipeline::name).filter(|name| is_of_known_heads(name)) {
            assert!(of_cases.contains(&name), "{name}: a run launches it, and no case");
        }
    }
}

static BROKEN: [Variant; 1] = only("@compute @workgroup_size(64)\nfn main() {\n    let x = missing;\n}", &[]);

kernel! {
    /// Nothing.
    pub struct Broken in "broken" of BROKEN {
        write y,
        ;
        count: u32,
    }
}

impl Kernel for Broken<'_> {
    fn check(&self) {}

    fn launch(&self, _: Traits) -> Launch {
        launch_flat(&BROKEN[0], self.count as usize, Default::default())
    }

    fn twin<T: Real>(&mut self) {}
}

#[test]
fn what_does_not_compile_is_said_in_a_line() {
    if skip_gpu() {
        return;
    }
    let adapter = adapter();
    let device = Device::compiler(Gpu::open(&adapter).unwrap());
    let mut y: Tensor = device.tensor("y", &[4], DType::Real).unwrap();
    device.run(Broken { y: &mut y, count: 4 });
    let error = device.synchronize().unwrap_err().to_string();
    assert!(error.starts_with("kernel broken does not compile on this adapter: "), "{error}");
    assert!(error.contains("missing") && !error.contains('\n'), "{error}");
}
