//! Offline reinforcement learning of language models on any GPU: hand-written WGSL kernels with CPU twins, a small
//! transformer with hand-written forward and backward passes, and a thin trainer.
//!
//! The command `dqo-wgpu` is this library's [`cli`]; what each verb does is a function here. From the ground up:
//!
//! | module | has |
//! |---|---|
//! | [`gpu`], [`device`] | adapters and pipelines; tensors and calls of kernels, on a GPU or on the CPU |
//! | [`kernels`] | every kernel: its call, its shader's variants, its twin on the CPU |
//! | [`data`] | rows, problems, the tokenizer, micro-batches |
//! | [`model`] | a model's files, its weights, its passes, adapters |
//! | [`objective`] | the methods, and the seam that one of your own implements |
//! | [`sample`], [`grade`] | generation and evaluation; answers |
//! | [`train`] | runs, their plan, their directory; scores of given responses |
//! | [`report`] | pages |
//!
//! # Loading a policy and scoring responses
//!
//! ```
//! use std::path::Path;
//!
//! use dqo_wgpu::data::{Examples, RowFile};
//! use dqo_wgpu::device::{DType, Device, Precision};
//! use dqo_wgpu::model::{Checkpoint, ModelFiles, Storage};
//! use dqo_wgpu::train::{Scorer, Scoring, Source};
//!
//! # fn main() -> anyhow::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("rows.jsonl");
//! std::fs::write(&path, r#"{"prompt": "Q: 12+34\nA: ", "completion": "2+4+0=6"}"#)?;
//! let files = ModelFiles::open("assets/demo/model", None)?;
//! let rows = RowFile::read(&path)?;
//! let examples = Examples::build(&rows, &files.tokenizer, files.config.limits(), 1024)?.examples;
//!
//! let device = Device::cpu(Precision::F32);
//! let checkpoint = Checkpoint::open(Path::new("assets/demo/model"))?;
//! let source = Source { config: &files.config, checkpoint: Some(&checkpoint), adapter: None, base: None };
//! let scoring = Scoring { storage: Storage::frozen(DType::Real), tokens_per_micro_batch: 1024 };
//! let mut scorer = Scorer::new(&device, source, "policy", scoring, &examples)?;
//! scorer.score(&examples, |_, scored| {
//!     for response in scored {
//!         println!("log pi = {}", response.logps.iter().sum::<f64>());
//!         assert!(response.logps.iter().all(|logp| *logp < 0.0));
//!     }
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Training
//!
//! A run is made of settings, as a `config.toml` has them; [`Run::plan`](train::Run::plan) says what it takes before it
//! begins.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use dqo_wgpu::train::{Outcome, Run, TrainSettings, Watch};
//!
//! # fn main() -> anyhow::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # let rows = dir.path().join("rows.jsonl");
//! # let row = |reward| format!("{{\"prompt\": \"Q: 1+2\\nA: \", \"completion\": \"1+2+0=3\", \"reward\": {reward}}}\n");
//! # std::fs::write(&rows, row(0) + &row(1))?;
//! let mut table: toml::Table = "method = 'dqo'\nbeta = 0.1\nlearning_rate = 1e-4\ndevice = 'cpu'".parse()?;
//! table.insert("model".into(), "assets/demo/model".into());
//! table.insert("data".into(), rows.display().to_string().into());
//! table.insert("output_dir".into(), dir.path().join("out").display().to_string().into());
//!
//! let run = Run::open(TrainSettings::of_table(table)?)?;
//! assert!(run.plan()?.peak_bytes < 100 << 20);
//! let stop = AtomicBool::new(false); // true: after the step that it is in
//! let outcome = run.train(false, Watch::silent(&stop))?;
//! assert!(matches!(outcome, Outcome::Finished(dir) if dir.join("policy/model.safetensors").exists()));
//! # Ok(())
//! # }
//! ```
//!
//! # An objective of one's own
//!
//! It says what it trains on, and gives each token's `dL/dlogp` on the way from the forward to the backward pass; see
//! [`objective::Objective`]. This one is run by `cargo run --release --example own_objective`:
//!
//! ```ignore
#![doc = include_str!("../examples/own_objective/main.rs")]
//! ```
//!
//! # A kernel
//!
//! A call names its tensors and sizes, and [`Device::run`](device::Device::run) checks and queues it: on a GPU the shader,
//! on the CPU the twin.
//!
//! ```
//! use dqo_wgpu::device::{DType, Device, Precision, word};
//! use dqo_wgpu::kernels::Scale;
//!
//! # fn main() -> anyhow::Result<()> {
//! let device = Device::cpu(Precision::F32);
//! let mut x = device.tensor("x", &[4], DType::Real)?;
//! x.write(0, [1.0, 2.0, 3.0, 4.0].into_iter())?;
//! device.run(Scale { x: &mut x, count: word(4), factor: 0.5 });
//! assert_eq!(x.read(4)?, [0.5, 1.0, 1.5, 2.0]);
//! # Ok(())
//! # }
//! ```
//!
//! One of one's own is a struct that the macro [`kernel!`](device::kernel) makes a kernel, a shader, and a twin to hold it
//! against; `cargo run --example own_kernel` runs this one:
//!
//! ```ignore
#![doc = include_str!("../examples/own_kernel/main.rs")]
//! ```

// What is said goes through `progress::say` and results through the command line's `print`: a reader that is gone ends no run.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod cli;
pub mod data;
pub mod demo;
pub mod device;
pub mod files;
pub mod format;
pub mod gguf;
pub mod gpu;
pub mod grade;
pub mod hub;
pub mod kernels;
pub mod model;
pub mod objective;
pub mod progress;
pub mod ranks;
pub mod report;
pub mod sample;
pub mod self_test;
pub mod source;
pub mod train;

#[path = "../benches/mod.rs"]
pub mod benches;
