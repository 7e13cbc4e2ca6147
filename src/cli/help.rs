//! How the help is laid out, beside what each option says of itself: headings, what the short help shows, names of values,
//! examples.

use std::any::TypeId;
use std::path::PathBuf;

use clap::{Arg, Command};

use super::needs::{DRAWS, TRAINS};

/// What a verb is used for, as it is typed.
const EXAMPLES: &[(&str, &str)] = &[
    ("demo", "dqo-wgpu demo"),
    ("devices", "dqo-wgpu devices"),
    (
        "sample",
        "dqo-wgpu sample --model MODEL --task gsm8k --data train.jsonl --num-samples 8 --output rollouts.jsonl\n  \
         dqo-wgpu sample --model MODEL --adapter out/final/policy --data prompts.jsonl --output responses.jsonl",
    ),
    ("grade", "dqo-wgpu grade --task math --data responses.jsonl --output rollouts.jsonl"),
    (
        "process-reward",
        "dqo-wgpu process-reward --model MODEL --data rollouts.jsonl --num-samples 8 --output judged.jsonl",
    ),
    ("generate", "dqo-wgpu generate --model Qwen/Qwen2-0.5B-Instruct --prompt \"What is 6 x 7?\""),
    (
        "chat",
        "dqo-wgpu chat --model Qwen/Qwen2-0.5B-Instruct\n  \
         dqo-wgpu chat --model MODEL --adapter out/final/policy --value out/final/value",
    ),
    (
        "eval",
        "dqo-wgpu eval --model out/final/policy --data test.jsonl\n  \
         dqo-wgpu eval --model MODEL --adapter out/final/policy --data test.jsonl --sample --num-seeds 4",
    ),
    ("logp", "dqo-wgpu logp --model MODEL --data rollouts.jsonl --output logps.jsonl"),
    (
        "train",
        "dqo-wgpu train --method dqo --model MODEL --data rollouts.jsonl --output-dir out --lora-r 16 --learning-rate 1e-4\n  \
         dqo-wgpu train --config out/config.toml --resume\n\n\
         Every option: dqo-wgpu train --help",
    ),
    ("values", "dqo-wgpu values --value out/final/value --data rollouts.jsonl --output values.html"),
    ("report", "dqo-wgpu report out-dqo out-dpo --output report.html"),
    ("plan", "dqo-wgpu plan --method dqo --model Qwen/Qwen2-7B-Instruct --lora-r 16 --base q4"),
    (
        "merge",
        "dqo-wgpu merge --model MODEL --adapter out/final/policy --output merged\n  \
         dqo-wgpu merge --model MODEL --adapter out/final/policy --gguf q8_0 --output merged.gguf",
    ),
    (
        "export",
        "dqo-wgpu export --model out/final/policy --output policy.gguf\n  \
         dqo-wgpu export --model MODEL --adapter out/final/policy --output adapter.gguf",
    ),
    (
        "bench",
        "dqo-wgpu bench --kernel matmul\n  \
         dqo-wgpu bench --step --shape 0.5b --lora-r 16",
    ),
    ("completions", "dqo-wgpu completions bash > /etc/bash_completion.d/dqo-wgpu"),
    ("man", "dqo-wgpu man --output-dir ~/.local/share/man/man1"),
];

/// Options by what they are about, of the verbs that have many; the first heading that has an option is its own.
struct Heading {
    verbs: &'static [&'static str],
    title: &'static str,
    options: &'static [&'static str],
}

const HEADINGS: &[Heading] = &[
    Heading {
        verbs: TRAINS,
        title: "Model",
        options: &["model", "adapter", "device", "matmul_precision", "dtype", "base", "base_head"],
    },
    Heading { verbs: TRAINS, title: "Data", options: &["data", "columns", "max_length"] },
    Heading {
        verbs: TRAINS,
        title: "Steps",
        options: &["seed", "batch_size", "num_train_epochs", "max_steps", "learning_rate", "method"],
    },
    Heading {
        verbs: TRAINS,
        title: "Memory",
        options: &["tokens_per_micro_batch", "gradient_checkpointing", "activations"],
    },
    Heading {
        verbs: TRAINS,
        title: "Adapters",
        options: &["lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"],
    },
    Heading {
        verbs: TRAINS,
        title: "Optimizer",
        options: &[
            "optimizer",
            "weight_decay",
            "adam_beta1",
            "adam_beta2",
            "adam_epsilon",
            "max_grad_norm",
            "lr_scheduler_type",
            "min_lr_rate",
            "warmup_ratio",
            "warmup_steps",
        ],
    },
    Heading {
        verbs: TRAINS,
        title: "Evaluation",
        options: &["eval_data", "eval_steps", "eval_on_start", "task", "max_new_tokens", "eval_batch_size"],
    },
    Heading {
        verbs: TRAINS,
        title: "Saving",
        options: &["output_dir", "save_steps", "save_total_limit", "save_dtype", "resume"],
    },
    Heading {
        verbs: DRAWS,
        title: "Model",
        options: &["model", "adapter", "value", "device", "matmul_precision", "dtype", "base", "base_head"],
    },
    Heading {
        verbs: DRAWS,
        title: "Data",
        options: &[
            "data",
            "columns",
            "output",
            "task",
            "max_problems",
            "prompt",
            "system",
            "raw",
            "flexible",
            "math_equal",
            "resume",
        ],
    },
    Heading {
        verbs: DRAWS,
        title: "Sampling",
        options: &[
            "num_samples",
            "sample",
            "num_seeds",
            "seed",
            "batch_size",
            "temperature",
            "top_k",
            "top_p",
            "min_prob",
            "max_new_tokens",
            "max_length",
        ],
    },
];

/// Of the verbs with the most options, those that the short help shows; the others stand in the long one.
const SHORT: &[&str] = &[
    "model",
    "adapter",
    "method",
    "device",
    "dtype",
    "base",
    "data",
    "output_dir",
    "resume",
    "batch_size",
    "num_train_epochs",
    "learning_rate",
    "max_length",
    "tokens_per_micro_batch",
    "gradient_checkpointing",
    "lora_r",
    "eval_data",
    "save_steps",
    "beta",
    "value_learning_rate",
    "file",
    "quiet",
    "buffers",
    "json",
];

/// The command with its help laid out.
pub fn laid_out(command: Command) -> Command {
    command.mut_subcommands(|verb| {
        let name = verb.get_name().to_owned();
        let verb = match EXAMPLES.iter().find(|(of_verb, _)| *of_verb == name) {
            Some((_, text)) => verb.after_help(format!("Examples:\n  {text}")),
            None => verb,
        };
        verb.mut_args(|argument| {
            let id = argument.get_id().as_str();
            let is_rare = TRAINS.contains(&name.as_str()) && !SHORT.contains(&id);
            let heading =
                HEADINGS.iter().find(|heading| heading.verbs.contains(&&*name) && heading.options.contains(&id));
            let argument = match heading {
                Some(heading) => argument.help_heading(heading.title),
                None => argument,
            };
            with_short_value_name(argument.hide_short_help(is_rare))
        })
    })
}

/// A value that is named after its option, which says nothing new, is named by its kind: a line is for the text.
fn with_short_value_name(argument: Arg) -> Arg {
    let of_option = argument.get_id().as_str().to_uppercase();
    let is_named = argument.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() != of_option));
    if is_named || argument.is_positional() || !argument.get_action().takes_values() {
        return argument;
    }
    let parser = argument.get_value_parser().type_id();
    let is_any = |kinds: &[TypeId]| kinds.iter().any(|kind| parser == *kind);
    let integers = [TypeId::of::<usize>(), TypeId::of::<u64>(), TypeId::of::<u32>(), TypeId::of::<u16>()];
    let name = match () {
        () if is_any(&integers) => "N",
        () if is_any(&[TypeId::of::<f64>()]) => "X",
        () if is_any(&[TypeId::of::<bool>()]) => "BOOL",
        () if is_any(&[TypeId::of::<PathBuf>()]) => "FILE",
        () => "NAME",
    };
    argument.value_name(name)
}
