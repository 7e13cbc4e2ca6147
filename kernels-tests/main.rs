//! The tests: a case per kernel, the shaders without a GPU, gradients, model, training, command line.

mod activations;
mod adamw_8bit;
mod adapters;
mod bad_input;
mod bad_problems;
mod blocks;
mod browser;
mod cases;
mod chat;
mod columns;
mod command;
mod data_indices;
mod documents;
mod examples;
#[cfg(target_os = "linux")]
mod faults;
mod floors;
#[cfg(unix)]
mod fuzz;
mod generation;
mod gguf;
#[cfg(target_os = "linux")]
mod gpu_compilers;
mod grade;
mod gradients;
mod harness;
mod help;
#[cfg(feature = "hub")]
mod hub;
mod inputs;
mod long_rows;
mod lora;
#[cfg(unix)]
mod losses;
mod matmul_precision;
mod memory;
mod methods;
mod mlp_blocks;
mod model;
mod model_files;
mod online;
mod option_table;
mod options;
mod pages;
mod parquet;
mod pipelines;
mod plan;
mod products;
#[cfg(feature = "mpi")]
mod ranks;
mod reference;
mod report;
mod resume;
mod saved_type;
mod shards;
mod shared_sum;
mod shell;
mod signs;
mod streams;

#[cfg(unix)]
mod terminal;
mod training;
mod verbs;
mod watch;
mod whole_loop;

mod attention;
mod attention_backward_key_value;
mod attention_cached;
mod dro;
mod dropout;
mod ppo;
mod sample_token;

mod shaders;
mod uniformity;
