//! Bad input gets one clear error, exit code 1, and nothing is half-written.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

#[cfg(unix)]
use crate::command::on_full_disk;
use crate::command::{copy_of, dqo, error_of, train};
use crate::model::golden;

const SET: &str = "dqo/switches";

/// `train` with these lines as data; the error without the data file's path.
#[track_caller]
fn error_of_rows(lines: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("rows.jsonl");
    fs::write(&data, lines.join("\n")).unwrap();
    let output = dir.path().join("out");
    let message = error_of(&mut train(SET, &data, &output));
    assert!(!output.exists(), "a run was begun");
    message.replace(&format!("{}:", data.display()), "rows.jsonl:")
}

/// A good row with some fields changed; null takes one away.
fn row(changes: Value) -> String {
    let mut row = json!({ "prompt_ids": [1, 2], "completion_ids": [3, 4, 5], "reward": 1.0 });
    row.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    row.to_string()
}

#[test]
fn rows_are_refused_by_file_line_and_field() {
    let good = row(json!({}));
    let cases = [
        ("not json", "rows.jsonl:2: is not a JSON object: expected ident at line 1 column 2"),
        ("[1]", "rows.jsonl:2: is not a JSON object: invalid type: sequence, expected a map at line 1 column 0"),
        (
            &row(json!({"reward": null})),
            "rows.jsonl:2: field `reward`: is missing; dqo needs one in every row (or `label`)",
        ),
        (&row(json!({"reward": "high"})), "rows.jsonl:2: field `reward`: \"high\" is not a finite number"),
        (
            r#"{"prompt_ids": [1], "completion_ids": [2], "reward": NaN}"#,
            "rows.jsonl:2: field `reward`: is not a finite number",
        ),
        (
            r#"{"prompt_ids": [1], "completion_ids": [2], "reward": -Infinity}"#,
            "rows.jsonl:2: field `reward`: is not a finite number",
        ),
        (
            r#"{"prompt_ids": [1], "completion_ids": [2], "reward": 1e999}"#,
            "rows.jsonl:2: field `reward`: is not a finite number",
        ),
        (
            &row(json!({"label": "yes", "reward": null})),
            "rows.jsonl:2: field `label`: \"yes\" is neither true nor false",
        ),
        (
            &row(json!({"prompt_ids": null})),
            "rows.jsonl:2: field `prompt`: is missing (or `prompt_ids`, or `messages`)",
        ),
        (
            &row(json!({"prompt_ids": []})),
            "rows.jsonl:2: field `prompt`: has no tokens; a response needs at least one before it",
        ),
        (
            &row(json!({"completion_ids": null})),
            "rows.jsonl:2: field `completion`: is missing (or `completion_ids`, `response`, `messages`)",
        ),
        (&row(json!({"completion_ids": []})), "rows.jsonl:2: field `completion_ids`: is empty"),
        (&row(json!({"completion_ids": null, "completion": ""})), "rows.jsonl:2: field `completion`: is empty"),
        (
            &row(json!({"completion_ids": [3, 41, 5]})),
            "rows.jsonl:2: field `completion_ids`[1]: 41 is beyond the model's vocabulary of 41; were the rows made with \
             another model?",
        ),
        (&row(json!({"prompt_ids": [1, -2]})), "rows.jsonl:2: field `prompt_ids`[1]: -2 is not a token id"),
        (
            &row(json!({"step_rewards": [{"end": 1, "reward": 0.5}, {"end": 4, "reward": 0.5}]})),
            "rows.jsonl:2: field `step_rewards`[1]: its end is 4 and the completion has 3 tokens",
        ),
        (
            &row(json!({"step_rewards": [{"reward": 0.5}]})),
            "rows.jsonl:2: field `step_rewards`[0]: has no count of tokens as `end`",
        ),
        (
            &row(json!({"behavior_logps": [-1.0, -2.0]})),
            "rows.jsonl:2: field `behavior_logps`: has 2 entries and the completion 3 tokens",
        ),
        (
            &row(json!({"behavior_logps": [-1.0, "x", -2.0]})),
            "rows.jsonl:2: field `behavior_logps`[1]: \"x\" is not a finite number",
        ),
        (
            &row(json!({"finish_reason": "tired"})),
            "rows.jsonl:2: field `finish_reason`: \"tired\" is neither \"stop\" nor \"length\"",
        ),
        (
            &row(json!({"chosen": "a", "rejected": "b"})),
            "rows.jsonl:2: is a pair among responses; a file has either pairs (`chosen` and `rejected`) or responses \
             (`completion`)",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "hi"}], "reward": 1}"#,
            "rows.jsonl:2: field `messages`: has only one message; there is no prompt before it",
        ),
    ];
    for (bad, expected) in cases {
        assert_eq!(error_of_rows(&[&good, bad]), expected, "{bad}");
    }
}

#[test]
fn text_needs_a_tokenizer() {
    let dir = golden(SET).join("policy");
    let expected =
        format!("rows.jsonl:1: {}: has no tokenizer.json; give prompt_ids and completion_ids", dir.display());
    assert_eq!(error_of_rows(&[r#"{"prompt": "a", "completion": "b", "reward": 1}"#]), expected);
}

#[test]
fn an_empty_or_missing_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("rows.jsonl");
    fs::write(&data, "\n\n").unwrap();
    let output = dir.path().join("out");
    assert_eq!(error_of(&mut train(SET, &data, &output)), format!("{}: has no rows", data.display()));
    fs::remove_file(&data).unwrap();
    let expected = format!("{}: cannot be read: No such file or directory (os error 2)", data.display());
    assert_eq!(error_of(&mut train(SET, &data, &output)), expected);
    assert!(!output.exists());
}

/// `train` after `damage` to a copy of the policy; the error without the model's path.
#[track_caller]
fn error_of_model(damage: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let set = copy_of(SET, &dir.path().join("set"));
    let model = set.join("policy");
    damage(&model);
    let mut command = dqo();
    command.args(["logp", "--device", "cpu", "--model"]).arg(&model);
    command.arg("--data").arg(set.join("rows.jsonl")).arg("--output").arg(dir.path().join("logps.jsonl"));
    let message = error_of(&mut command);
    assert!(!dir.path().join("logps.jsonl").exists());
    message.replace(&format!("{}/", model.display()), "").replace(&model.display().to_string(), "MODEL")
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    edit(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn a_damaged_model_directory_is_refused() {
    assert_eq!(
        error_of_model(|model| fs::remove_file(model.join("config.json")).unwrap()),
        "MODEL: there is no config.json; a model is a Hugging Face directory"
    );
    assert_eq!(
        error_of_model(|model| fs::remove_file(model.join("model.safetensors")).unwrap()),
        "MODEL: there is no model.safetensors and no model.safetensors.index.json; other weight formats are not supported"
    );
    let truncated = error_of_model(|model| {
        let path = model.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    });
    assert_eq!(
        truncated,
        "model.safetensors: not a whole safetensors file (incomplete metadata, file not fully covered); download it again"
    );
    let lying = error_of_model(|model| {
        let path = model.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        fs::write(&path, bytes).unwrap();
    });
    assert!(lying.starts_with("model.safetensors: not a whole safetensors file"), "{lying}");
    let overlapping = error_of_model(|model| {
        let path = model.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
        // One tensor's offsets are moved over its neighbour's; the header keeps its length.
        let (start, _) = header.match_indices("\"data_offsets\":[").nth(1).unwrap();
        let digit = start + "\"data_offsets\":[".len();
        let mut bytes = bytes;
        bytes[8 + digit] = if bytes[8 + digit] == b'1' { b'2' } else { b'1' };
        fs::write(&path, bytes).unwrap();
    });
    assert!(overlapping.starts_with("model.safetensors: not a whole safetensors file"), "{overlapping}");
}

#[test]
fn shards_stay_in_their_directory() {
    for name in ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""] {
        let message = error_of_model(|model| {
            let index = json!({"weight_map": {"model.norm.weight": name}});
            fs::write(model.join("model.safetensors.index.json"), index.to_string()).unwrap();
        });
        let expected = format!(
            "model.safetensors.index.json: the file of model.norm.weight is {name:?}, which is not a bare file name"
        );
        assert_eq!(message, expected);
    }
    let missing = error_of_model(|model| {
        let index = json!({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}});
        fs::write(model.join("model.safetensors.index.json"), index.to_string()).unwrap();
    });
    assert_eq!(
        missing,
        "a shard of model.safetensors.index.json: model-00001-of-00002.safetensors: cannot be read: No such file or \
         directory (os error 2)"
    );
}

#[test]
fn a_model_that_is_not_what_its_configuration_says_is_refused() {
    let message =
        error_of_model(|model| edit_json(&model.join("config.json"), |json| json["intermediate_size"] = 28.into()));
    assert_eq!(
        message,
        "model.safetensors: model.layers.0.mlp.gate_proj.weight has the shape [24, 16], and config.json makes it [28, 16]"
    );
    let message =
        error_of_model(|model| edit_json(&model.join("config.json"), |json| json["num_hidden_layers"] = 2.into()));
    assert_eq!(
        message,
        "MODEL; config.json says that the model has it: the tensor model.layers.1.input_layernorm.weight is missing"
    );
    let message =
        error_of_model(|model| edit_json(&model.join("config.json"), |json| json["model_type"] = "qwen3".into()));
    assert_eq!(
        message,
        "MODEL; config.json says that the model has it: the tensor model.layers.0.self_attn.q_norm.weight is missing"
    );
    let message = error_of_model(|model| {
        // A Llama whose file has the biases of a Qwen2: leaving them out would compute something else.
        let other = golden("dqo/qwen2/policy/model.safetensors");
        fs::copy(other, model.join("model.safetensors")).unwrap();
        fs::copy(golden("dqo/qwen2/policy/config.json"), model.join("config.json")).unwrap();
        edit_json(&model.join("config.json"), |json| json["model_type"] = "llama".into());
    });
    assert_eq!(
        message,
        "model.safetensors: model.layers.0.self_attn.k_proj.bias is not a tensor of a Llama model as config.json describes it"
    );
}

#[test]
fn unsupported_models_are_refused_by_name() {
    let message =
        error_of_model(|model| edit_json(&model.join("config.json"), |json| json["model_type"] = "gpt2".into()));
    assert_eq!(
        message,
        "config.json: model_type \"gpt2\" is not supported; supported are llama, mistral, qwen2, qwen3, smollm3, gemma, \
         gemma3_text"
    );
    let message = error_of_model(|model| {
        edit_json(&model.join("config.json"), |json| json["attn_logit_softcapping"] = 50.0.into());
    });
    assert_eq!(message, "config.json: attn_logit_softcapping 50.0 is not supported; use a model without it");
    let message = error_of_model(|model| {
        edit_json(&model.join("config.json"), |json| json["architectures"] = json!(["LlamaForTokenClassification"]));
    });
    assert_eq!(
        message,
        "config.json: architectures is LlamaForTokenClassification, and a policy is a *ForCausalLM; a value network goes \
         with --value-model"
    );
}

#[test]
fn a_name_that_is_neither_directory_nor_id_is_refused() {
    let mut command = dqo();
    command.args(["logp", "--model", "no/such/model", "--data", "x", "--output", "y"]);
    assert_eq!(
        error_of(&mut command),
        "no/such/model: there is no such model directory, and it is no id of the form OWNER/NAME either"
    );
}

#[test]
fn options_out_of_range_are_refused() {
    let rows = golden(SET).join("rows.jsonl");
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        (["--lambda", "1.5"], "--lambda is 1.5, which is out of its range"),
        (["--learning-rate", "NaN"], "--learning-rate is NaN, which is out of its range"),
        (["--batch-size", "0"], "--batch-size is 0; it must be at least 1"),
        (["--device", "99"], "--device 99: there is no such adapter; there are none"),
        (["--device", "unicorn"], "--device unicorn: no adapter's name contains it; there are none"),
        (
            ["--device", "gpu"],
            "no GPU adapter found; install a Vulkan driver (Debian and Ubuntu: mesa-vulkan-drivers) or use --device cpu",
        ),
    ];
    for (options, expected) in cases {
        let mut command = train(SET, &rows, &dir.path().join("out"));
        // No driver is found here: that is the machine without an adapter.
        command.args(options).env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
        assert_eq!(error_of(&mut command), expected);
    }
    let mut command = train(SET, &rows, &dir.path().join("out"));
    let usage = command.args(["--beta", "much"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_configuration_file_is_checked_key_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.toml");
    let rows = golden(SET).join("rows.jsonl");
    let error_with = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = train(SET, &rows, &dir.path().join("out"));
        error_of(command.arg("--config").arg(&file)).replace(&file.display().to_string(), "run.toml")
    };
    let unknown = "run.toml: unknown key `betta`; keys are the options' names with _ for -";
    assert_eq!(error_with("betta = 0.1"), unknown);
    assert_eq!(error_with("beta = \"much\""), "run.toml: `beta`: invalid type: string \"much\", expected f64");
    assert!(error_with("beta = ").starts_with("run.toml:1: is not TOML"));
}

#[test]
fn a_run_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, output) = (golden(SET).join("rows.jsonl"), dir.path().join("out"));
    assert!(train(SET, &rows, &output).status().unwrap().success());
    let message = error_of(&mut train(SET, &rows, &output));
    let expected = "has a run already; go on with it by --resume, or choose another --output-dir";
    assert_eq!(message, format!("{}: {expected}", output.display()));
    let message = error_of(train(SET, &rows, &output).args(["--resume", "--beta", "0.5"]));
    let file = output.join("config.toml");
    assert_eq!(
        message,
        format!("--resume: --beta is 0.03 in {} and 0.5 now; the run goes on as it began", file.display())
    );
}

#[test]
fn an_output_directory_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rows = golden(SET).join("rows.jsonl");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let output = file.join("out");
    let message = error_of(&mut train(SET, &rows, &output));
    assert_eq!(message, format!("{}: cannot be made: Not a directory (os error 20)", output.display()));
}

/// As a user without the right to write; root has it everywhere, so root becomes nobody.
#[cfg(unix)]
#[test]
fn a_directory_without_write_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let set = copy_of(SET, &dir.path().join("set"));
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    let program = dir.path().join("dqo-wgpu");
    fs::copy(env!("CARGO_BIN_EXE_dqo-wgpu"), &program).unwrap();
    let output = locked.join("out");
    let mut command = std::process::Command::new(&program);
    command.args(["train", "--method", "sft", "--device", "cpu", "--model"]).arg(set.join("policy"));
    command.arg("--data").arg(set.join("rows.jsonl")).arg("--output-dir").arg(&output);
    if fs::write(locked.join("probe"), "").is_ok() {
        fs::remove_file(locked.join("probe")).unwrap();
        command.uid(NOBODY);
    }
    let message = error_of(&mut command);
    assert_eq!(message, format!("{}: cannot be made: Permission denied (os error 13)", output.display()));
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, output) = (golden(SET).join("rows.jsonl"), dir.path().join("out"));
    let command = train(SET, &rows, &output);
    // 16 blocks hold the configuration and the metrics, not a model.
    let message = error_of(&mut on_full_disk(16, &command));
    let model = output.join(".checkpoint-000001.dqo-new/policy/model.safetensors");
    assert!(message.starts_with(&format!("{}: cannot be written: ", model.display())), "{message}");
    let left: Vec<_> = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("checkpoint")), "{left:?}");
    // With room again, the run goes on.
    assert!(train(SET, &rows, &output).arg("--resume").status().unwrap().success());
    assert!(output.join("final/policy/model.safetensors").exists());
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("rows.jsonl");
    // The squares of this reward overflow f32.
    let rows = [row(json!({})), row(json!({"reward": 1e30})), row(json!({}))];
    fs::write(&data, rows.join("\n")).unwrap();
    let output = dir.path().join("out");
    let message = error_of(&mut train(SET, &data, &output));
    assert_eq!(
        message,
        format!(
            "step 1: the loss is not finite, with the rows on line 2 of {} in it; the weights are as they were before the \
             step, and the last checkpoint is kept. Try a smaller --learning-rate",
            data.display()
        )
    );
    assert!(!output.join("final").exists());
}

#[test]
fn a_run_larger_than_the_device_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let set = copy_of(SET, &dir.path().join("set"));
    for part in ["policy", "value"] {
        // A billion times the vocabulary: no machine has that much memory.
        edit_json(&set.join(part).join("config.json"), |json| json["vocab_size"] = 60_000_000_000u64.into());
    }
    let output = dir.path().join("out");
    let mut command = dqo();
    command.args(["train", "--method", "dqo", "--device", "cpu", "--model"]).arg(set.join("policy"));
    command.arg("--data").arg(set.join("rows.jsonl")).arg("--output-dir").arg(&output);
    let message = error_of(&mut command);
    assert!(
        message.starts_with("the run takes ")
            && message.ends_with("use smaller --tokens-per-micro-batch or --max-length"),
        "{message}"
    );
    assert!(!output.exists());
}

#[test]
fn a_value_network_of_another_shape_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let value = copy_of(&format!("{SET}/value"), &dir.path().join("value"));
    edit_json(&value.join("config.json"), |json| json["intermediate_size"] = 64.into());
    let mut command = train(SET, &golden(SET).join("rows.jsonl"), &dir.path().join("out"));
    let message = error_of(command.arg("--value-model").arg(&value));
    let expected = format!("--value-model {}: its layers are not shaped as those of --model; ", value.display());
    assert!(message.starts_with(&expected), "{message}");
}

/// What `logp` says of a file of these bytes, which must be soon.
fn of_bytes(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (rows, output) = (dir.path().join("rows.jsonl"), dir.path().join("out.jsonl"));
    fs::write(&rows, bytes).unwrap();
    let mut command = dqo();
    command.args(["logp", "--device", "cpu", "--model"]).arg(golden(SET).join("policy")).arg("--data").arg(&rows);
    let message = error_of(command.arg("--output").arg(&output));
    assert!(!output.exists());
    message.replace(&rows.display().to_string(), "rows.jsonl")
}

const WHOLE: &str = r#"{"prompt_ids": [1, 2], "completion_ids": [3, 4], "reward": 1}"#;

#[test]
fn a_field_that_is_nearly_one_of_ours_is_refused_and_others_are_left_alone() {
    let with = |fields: &str| format!("{WHOLE}\n{}, {fields}}}\n", WHOLE.trim_end_matches('}'));
    let cases = [
        ("step_reward", "step_rewards"),
        ("behaviour_logps", "behavior_logps"),
        ("behavior_logprobs", "behavior_logps"),
        ("Finish_reason", "finish_reason"),
        ("finishreason", "finish_reason"),
        ("lable", "label"),
    ];
    for (name, known) in cases {
        // A transposition is two letters.
        let name = if name == "lable" { "labl" } else { name };
        let expected =
            format!("rows.jsonl:2: field `{name}`: is not known; is it `{known}`? Rename it, or leave it out");
        assert_eq!(of_bytes(with(&format!("\"{name}\": 0")).as_bytes()), expected);
    }
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    fs::write(
        &rows,
        with(r#""id": 7, "source": "x", "prompt_id": "x", "labels": [1], "question": "x", "record": 1, "score": 2"#),
    )
    .unwrap();
    let mut command = dqo();
    command.args(["logp", "--device", "cpu", "--model"]).arg(golden(SET).join("policy")).arg("--data").arg(&rows);
    let output = command.arg("--output").arg(dir.path().join("out.jsonl")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn rows_that_contradict_themselves_are_refused_by_line() {
    let cases = [
        (r#"{"prompt_ids": [1], "completion_ids": [2], "reward": 1, "reward": 0}"#, "field `reward`: stands twice"),
        (
            r#"{"prompt_ids": [1], "completion_ids": [2], "behavior_logps": [0.5]}"#,
            "field `behavior_logps`[0]: 0.5 is above 0, and a log-prob never is; are these probabilities?",
        ),
        (
            r#"{"prompt_ids": [1], "completion_ids": [2], "reward": 1, "label": false}"#,
            "fields `reward` and `label`: 1 and false contradict each other; leave one out",
        ),
        (
            r#"{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [2]}"#,
            "fields `chosen` and `rejected`: are the same; a pair has a better and a worse one",
        ),
        (r#"{"messages": [], "instruction": "x"}"#, "has `messages` and `instruction`; a row is written in one form"),
        (
            r#"{"conversations": [{"from": "human", "value": "x"}, {"from": "tool", "value": "y"}]}"#,
            "field `conversations`[1]: `from` is \"tool\"; there are human, gpt and system",
        ),
        (r#"{"instruction": "x", "output": ""}"#, "field `output`: is missing or empty"),
    ];
    for (row, expected) in cases {
        assert_eq!(of_bytes(row.as_bytes()), format!("rows.jsonl:1: {expected}"));
    }
}

#[test]
fn bytes_that_are_no_text_are_named_by_their_line_at_once() {
    let start = std::time::Instant::now();
    let bom = of_bytes(format!("\u{feff}{WHOLE}\n").as_bytes());
    assert_eq!(bom, "rows.jsonl:1: begins with a byte order mark; save the file as UTF-8 without one");
    let invalid = of_bytes(&[WHOLE.as_bytes(), b"\n{\"prompt\": \"\xff\"}\n"].concat());
    assert_eq!(invalid, "rows.jsonl:2: byte 13: 0xff is not UTF-8; save the file as UTF-8");
    let long = format!("{WHOLE}\n{{\"prompt\": \"{}\"}}\n", "x".repeat(50 << 20));
    let expected = "rows.jsonl:2: is a line of 52428814 bytes, and a row has at most 33554432; a row is one JSON object on a \
                    line of its own";
    assert_eq!(of_bytes(long.as_bytes()), expected);
    assert!(start.elapsed().as_secs() < 10, "{:?} for three", start.elapsed());
}

#[test]
fn rows_of_alpaca_and_sharegpt_are_read_as_messages() {
    let dir = tempfile::tempdir().unwrap();
    let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    let logps = |rows: &[Value]| {
        let (data, output) = (dir.path().join("rows.jsonl"), dir.path().join("out.jsonl"));
        fs::write(&data, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
        let mut command = dqo();
        command.args(["logp", "--device", "cpu", "--model"]).arg(&model).arg("--data").arg(&data);
        let result = command.arg("--output").arg(&output).output().unwrap();
        assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
        crate::model::json_lines(&output)
    };
    let user = |content: &str| json!({"role": "user", "content": content});
    let assistant = |content: &str| json!({"role": "assistant", "content": content});
    let as_messages = [
        json!({"messages": [user("3+4"), assistant("7")]}),
        json!({"messages": [user("add\n3+4"), assistant("7")]}),
        json!({"messages": [user("3+4"), assistant("7"), user("5+5"), assistant("10")]}),
    ];
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    let as_others = [
        json!({"instruction": "3+4", "input": "", "output": "7"}),
        json!({"instruction": "add", "input": "3+4", "output": "7"}),
        json!({"conversations": [said("human", "3+4"), said("gpt", "7"), said("human", "5+5"), said("gpt", "10")]}),
    ];
    assert_eq!(logps(&as_messages), logps(&as_others));
}

#[test]
fn an_error_is_one_line_whatever_a_file_has_put_into_it() {
    let message = of_bytes(
        br#"{"prompt_ids": [1], "completion_ids": [2], "finish_reason": "x", "behavior_logp\nerror: y\u001b": 1}"#,
    );
    assert!(!message.contains('\n') && !message.contains('\u{1b}'), "{message}");
    let output = dqo().args(["logp", "--model", "no\nerror: such", "--data", "x", "--output", "y"]).output().unwrap();
    let text = crate::command::stderr(&output);
    assert_eq!(text.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{text}");
}

#[test]
fn advice_about_long_prompts_does_not_contradict_itself() {
    let ids: Vec<u32> = (0..300).map(|id| id % 16).collect();
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    fs::write(&rows, format!("{}\n", json!({"prompt_ids": ids, "completion_ids": [1, 2], "reward": 1}))).unwrap();
    let with = |max_length: usize| {
        let mut command = train(SET, &rows, &dir.path().join("out"));
        error_of(command.args(["--max-length", &max_length.to_string()]))
            .replace(&rows.display().to_string(), "rows.jsonl")
    };
    let context = 256;
    let raise =
        format!("rows.jsonl: every row's prompt has 64 tokens or more; raise --max-length, to {context} at most");
    assert_eq!(with(64), raise);
    let shorten =
        format!("rows.jsonl: every row's prompt fills the model's context of {context} tokens; shorten the prompts");
    assert_eq!(with(context), shorten);
}
