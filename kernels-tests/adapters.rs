//! Adapters as files: PEFT's format written and read, merging, the verbs that take them, and what is refused.

use std::path::Path;

use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::model::{Adapter, Storage};
use dqo_wgpu::objective::ValueNetwork;
use dqo_wgpu::train::{Run, TargetModule};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::command::{copy_of, dqo, error_of, stderr};
use crate::lora::{SETS, WEIGHTS, expected, largest, logps, new_adapters, set, shapes, values};
use crate::model::{floats, golden, json_lines, largest_difference};
use crate::training::{devices, settings, train, with};

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn adapters_are_written_as_peft_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["llama", "gemma3"] {
        adapters_are_written_as_pefts(name, &dir.path().join(name));
    }
    let config = json_file(&dir.path().join("llama/final/value/adapter_config.json"));
    assert_eq!(config["modules_to_save"], json!(["score"]));
}

fn adapters_are_written_as_pefts(name: &str, dir: &Path) {
    let set = set(name);
    train(new_adapters(&set, dir), &Device::cpu(Precision::F32));
    for part in ["policy", "value"] {
        let (ours, pefts) = (dir.join("final").join(part), set.join(part));
        assert_eq!(shapes(&ours.join(WEIGHTS)), shapes(&pefts.join(WEIGHTS)), "{part}");
        let (ours, pefts) =
            (json_file(&ours.join("adapter_config.json")), json_file(&pefts.join("adapter_config.json")));
        for name in ["peft_type", "task_type", "r", "lora_alpha", "bias", "use_rslora", "use_dora", "fan_in_fan_out"] {
            assert_eq!(ours[name], pefts[name], "{part}: {name}");
        }
        let sorted = |json: &Value| {
            let mut names: Vec<_> = json.as_array().unwrap().iter().map(Value::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&ours["target_modules"]), sorted(&pefts["target_modules"]), "{part}");
        assert_eq!(ours["base_model_name_or_path"], set.join("model").to_str().unwrap());
    }
}

#[test]
fn a_merged_model_is_base_and_adapter() {
    let dir = tempfile::tempdir().unwrap();
    for name in SETS {
        let set = set(name);
        let (expected_logps, expected_values) = expected(&set);
        for part in ["policy", "value"] {
            let output = dir.path().join(format!("{name}-{part}"));
            let mut command = dqo();
            command.arg("merge").arg("--model").arg(set.join("model")).arg("--adapter").arg(set.join(part));
            let done = command.arg("--output").arg(&output).output().unwrap();
            assert!(done.status.success(), "{}", stderr(&done));
            let rows = set.join("rows.jsonl");
            let real = Storage::frozen(DType::Real);
            for (device, _) in devices() {
                let difference = match part {
                    "policy" => largest_difference(&logps(&output, None, &rows, &device, real), &expected_logps),
                    _ => largest(&values(&output, None, &rows, &device, real), &expected_values),
                };
                assert!(difference <= 1e-4, "{name} {part} on {}: {difference:.1e}", device.description());
            }
            let message = error_of(&mut command);
            assert_eq!(message, format!("{}: exists already; choose another --output", output.display()));
        }
    }
    let config = json_file(&dir.path().join("gemma-value/config.json"));
    assert_eq!(config["architectures"][0], "GemmaForTokenClassification");
    // transformers has no token classifier of Gemma 3.
    let config = json_file(&dir.path().join("gemma3-value/config.json"));
    assert_eq!(config["architectures"][0], "Gemma3TextForSequenceClassification");
}

#[test]
fn merge_stores_weights_as_it_is_told_and_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("llama");
    let merge = |adapter: &Path, output: &Path| {
        let mut command = dqo();
        command.args(["merge", "--dtype", "bf16", "--model"]).arg(set.join("model"));
        command.arg("--adapter").arg(adapter).arg("--output").arg(output);
        command
    };
    let output = dir.path().join("merged");
    assert!(merge(&set.join("policy"), &output).output().unwrap().status.success());
    let bytes = std::fs::read(output.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.tensors().iter().all(|(_, view)| view.dtype() == safetensors::Dtype::BF16));
    assert_eq!(json_file(&output.join("config.json"))["dtype"], "bfloat16");

    let (other, output) = (golden("lora/gemma/policy"), dir.path().join("other"));
    error_of(&mut merge(&other, &output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn verbs_that_generate_take_adapters() {
    let dir = tempfile::tempdir().unwrap();
    let merged = dir.path().join("merged");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    let data = dir.path().join("rows.jsonl");
    std::fs::write(&data, json!({"prompt": "1+2=", "completion": "3", "reward": 1.0}).to_string()).unwrap();
    let run = dir.path().join("run");
    let mut command = dqo();
    command.args(["train", "--method", "dqo", "--device", "cpu", "--lora-r", "4", "--learning-rate", "0.05"]);
    command.args(["--max-steps", "3", "--model"]).arg(&model).arg("--data").arg(&data).arg("--output-dir").arg(&run);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let adapter = run.join("final/policy");
    let mut command = dqo();
    command.arg("merge").arg("--model").arg(&model).arg("--adapter").arg(&adapter).arg("--output").arg(&merged);
    assert!(command.output().unwrap().status.success());

    let sample = |model: &Path, adapter: Option<&Path>, batch: &str, name: &str| {
        let (problems, output) = (dir.path().join("problems.jsonl"), dir.path().join(name));
        let rows: String =
            (0..6).map(|n| json!({"prompt": format!("{n}+4="), "answer": "7"}).to_string() + "\n").collect();
        std::fs::write(&problems, rows).unwrap();
        let mut command = dqo();
        command.args(["sample", "--task", "none", "--device", "cpu", "--num-samples", "2", "--max-new-tokens", "12"]);
        command.args(["--batch-size", batch, "--model"]).arg(model).arg("--data").arg(&problems);
        if let Some(dir) = adapter {
            command.arg("--adapter").arg(dir);
        }
        let done = command.arg("--output").arg(&output).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        json_lines(&output)
    };
    let of_adapter = sample(&model, Some(&adapter), "12", "adapter.jsonl");
    // What a response becomes does not depend on its company, to the bit of its log-probs.
    let mut alone = sample(&model, Some(&adapter), "1", "alone.jsonl");
    let mut together = of_adapter.clone();
    for rows in [&mut alone, &mut together] {
        rows.sort_by_key(|row| row.to_string());
    }
    assert_eq!(alone, together);
    assert_ne!(of_adapter, sample(&model, None, "12", "base.jsonl"));

    let greedy = |model: &Path, adapter: Option<&Path>| {
        let mut command = dqo();
        command.args(["generate", "--device", "cpu", "--temperature", "0", "--json", "--max-new-tokens", "16"]);
        command.args(["--prompt", "12+34", "--model"]).arg(model);
        if let Some(dir) = adapter {
            command.arg("--adapter").arg(dir);
        }
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        serde_json::from_slice::<Value>(&done.stdout).unwrap()["completion_ids"].clone()
    };
    assert_eq!(greedy(&model, Some(&adapter)), greedy(&merged, None));

    let adapter = run.join("final/value");
    let values = |value: &Path, adapter: Option<&Path>| -> Vec<Vec<f64>> {
        let output = dir.path().join("values.jsonl");
        let mut command = dqo();
        command.args(["values", "--device", "cpu", "--value"]).arg(value).arg("--data").arg(&data);
        if let Some(dir) = adapter {
            command.arg("--adapter").arg(dir);
        }
        let done = command.arg("--output").arg(&output).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        json_lines(&output).iter().map(|row| floats(&row["values"])).collect()
    };
    let merged = dir.path().join("merged value");
    let mut command = dqo();
    command.arg("merge").arg("--model").arg(&model).arg("--adapter").arg(&adapter).arg("--output").arg(&merged);
    assert!(command.output().unwrap().status.success());
    let of_adapter = values(&model, Some(&adapter));
    assert!(of_adapter.iter().flatten().all(|value| *value != 0.0), "{of_adapter:?}");
    assert!(largest(&of_adapter, &values(&merged, None)) <= 1e-4);
}

#[test]
fn logp_takes_adapters_of_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("qwen2");
    let output = dir.path().join("out.jsonl");
    let run = |verb: &str, option: &str, adapter: &str| {
        let mut command = dqo();
        command.args([verb, "--device", "cpu", option]).arg(set.join("model")).arg("--adapter").arg(set.join(adapter));
        command.arg("--data").arg(set.join("rows.jsonl")).arg("--output").arg(&output);
        command
    };
    let (expected_logps, _) = expected(&set);
    let done = run("logp", "--model", "policy").output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let found: Vec<_> = json_lines(&output).iter().map(|row| floats(&row["logps"])).collect();
    let expected_logps: Vec<_> = expected_logps.into_iter().map(|row| row.logps).collect();
    assert!(largest(&found, &expected_logps) <= 2e-5);

    let message = error_of(&mut run("logp", "--model", "value"));
    assert_eq!(
        message,
        format!("{}: is a value network's: its task_type is TOKEN_CLS", set.join("value").join(WEIGHTS).display())
    );
    let message = error_of(&mut run("values", "--value", "policy"));
    assert_eq!(
        message,
        format!(
            "--adapter {}: its task_type is not TOKEN_CLS (or SEQ_CLS), which a value network's adapter has",
            set.join("policy").display()
        )
    );
}

/// The message that a configuration is refused with.
fn refusal(config: Value) -> String {
    match Run::open_on(settings(&config), |_| Ok(Device::cpu(Precision::F32))).and_then(|run| run.plan()) {
        Ok(_) => panic!("not refused"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn options_of_adapters_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("llama");
    let base = || with(new_adapters(&set, dir.path()), json!({"method": "dqo"}));
    let path = |part: &str| set.join(part).to_str().unwrap().to_owned();
    let full = || with(base(), json!({"lora_r": 0, "lora_alpha": null}));
    assert_eq!(
        refusal(with(full(), json!({"value": ValueNetwork::SharedBase}))),
        "--value shared-base: the value network is adapters on the policy's frozen base; give --lora-r or --adapter too"
    );
    assert_eq!(
        refusal(with(full(), json!({"lora_alpha": 8.0}))),
        "--lora-alpha goes with --lora-r, and describes new adapters"
    );
    assert_eq!(
        refusal(with(full(), json!({"lora_target_modules": vec![TargetModule::QProj]}))),
        "--lora-target-modules goes with --lora-r, and describes new adapters"
    );
    assert_eq!(refusal(with(base(), json!({"lora_alpha": -1.0}))), "--lora-alpha is -1, which is out of its range");
    assert_eq!(
        refusal(with(base(), json!({"adapter": set.join("policy")}))),
        "--adapter and --lora-r: the adapters to go on from have their rank; leave --lora-r out"
    );
    assert_eq!(
        refusal(with(base(), json!({"value_model": path("model")}))),
        format!(
            "--value-model {}: is a whole network, and with --value shared-base the value network is an adapter; give its \
             directory, or --value copy",
            path("model")
        )
    );
    assert_eq!(
        refusal(with(full(), json!({"value_model": path("value")}))),
        format!(
            "--value-model {}: is an adapter, which goes with --value shared-base and --lora-r or --adapter",
            path("value")
        )
    );
    assert_eq!(
        refusal(with(base(), json!({"value_model": path("policy")}))),
        format!(
            "--value-model {}: its task_type is not TOKEN_CLS (or SEQ_CLS), which a value network's adapter has",
            path("policy")
        )
    );
    assert_eq!(
        refusal(with(full(), json!({"adapter": set.join("policy"), "value": ValueNetwork::Copy}))),
        "--value copy begins with the policy's weights, of which --adapter is a part; merge them first (`merge`), or name \
         a --value-model"
    );
    assert_eq!(
        refusal(with(full(), json!({"adapter": set.join("model")}))),
        format!("{}: is a model, not an adapter; give it with --model", path("model"))
    );
    assert_eq!(
        refusal(with(base(), json!({"model": path("policy")}))),
        format!(
            "{}: is an adapter, not a model; give the model that it belongs to, and this with --adapter",
            path("policy")
        )
    );
    let other = golden("lora/gemma/policy");
    assert_eq!(
        refusal(with(full(), json!({"adapter": other.clone()}))),
        format!(
            "{}: base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight has the shape [40, 5], and \
             adapter_config.json and this base make it [48, 5]; the adapter was made for another base",
            other.join(WEIGHTS).display()
        )
    );
    assert_eq!(
        refusal(with(full(), json!({"base": "q4"}))),
        "--base goes with --lora-r or --adapter: a network that is trained whole has no frozen base"
    );
    assert_eq!(
        refusal(with(full(), json!({"base_head": "q8"}))),
        "--base-head goes with --lora-r or --adapter: a network that is trained whole has no frozen base"
    );
    assert_eq!(
        refusal(with(base(), json!({"base": "q8", "value": ValueNetwork::Copy}))),
        "--value copy goes without --base: that value network is trained whole, and has no frozen base"
    );
    let mut command = dqo();
    let output = command.args(["train", "--lora-target-modules", "q_proj,lm_head"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("invalid value 'lm_head'") && text.contains("[possible values: q_proj, k_proj,"), "{text}");
}

#[test]
fn what_is_not_computed_of_an_adapters_configuration_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = copy_of("lora/llama/policy", &dir.path().join("adapter"));
    let path = adapter.join("adapter_config.json");
    let original = json_file(&path);
    let open = |name: &str, value: Value| {
        let mut json = original.clone();
        json[name] = value;
        std::fs::write(&path, json.to_string()).unwrap();
        match Adapter::open(&adapter) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}").replace(&format!("{}: ", path.display()), ""),
        }
    };
    let known = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";
    let refused = [
        ("peft_type", json!("IA3"), "peft_type \"IA3\" is not supported; only \"LORA\" is".to_owned()),
        ("task_type", json!("QUESTION_ANS"), "task_type \"QUESTION_ANS\" is not supported; CAUSAL_LM, TOKEN_CLS and SEQ_CLS are".to_owned()),
        ("bias", json!("all"), "bias \"all\" is not supported; only \"none\" is".to_owned()),
        ("use_dora", json!(true), "use_dora true is not supported; use adapters without it".to_owned()),
        ("fan_in_fan_out", json!(true), "fan_in_fan_out true is not supported; use adapters without it".to_owned()),
        (
            "rank_pattern",
            json!({"q_proj": 8}),
            "rank_pattern {\"q_proj\":8} is not supported; use adapters without it".to_owned(),
        ),
        (
            "layers_to_transform",
            json!([1]),
            "layers_to_transform [1] is not supported; use adapters without it".to_owned(),
        ),
        (
            "target_modules",
            json!(".*proj"),
            "target_modules \".*proj\" is a pattern, which is not supported; give a list of names".to_owned(),
        ),
        (
            "target_modules",
            json!(["lm_head"]),
            format!("target_modules contains \"lm_head\", which is not supported; supported are {known}"),
        ),
        (
            "modules_to_save",
            json!(["lm_head"]),
            "modules_to_save contains \"lm_head\", which is not supported; only a value network's \"score\" is".to_owned(),
        ),
        (
            "init_lora_weights",
            json!("pissa"),
            "init_lora_weights \"pissa\" is not supported: such adapters belong to another base than the model's weights"
                .to_owned(),
        ),
        ("r", json!(0), "r 0 is not a number above 0".to_owned()),
        ("lora_alpha", json!("x"), "lora_alpha \"x\" is not a number above 0".to_owned()),
        ("use_rslora", json!("true"), "use_rslora \"true\" is not true or false".to_owned()),
        ("bias", json!(true), "bias true is not text".to_owned()),
        ("modules_to_save", json!("lm_head"), "modules_to_save \"lm_head\" is not a list of names".to_owned()),
        ("task_type", json!(7), "task_type 7 is not text".to_owned()),
        ("lora_alpha", json!(8), String::new()),
        ("target_modules", json!("all-linear"), String::new()),
    ];
    for (name, value, expected) in refused {
        assert_eq!(open(name, value), expected);
    }
}

/// Whole weights beside adapters, as PEFT stores them where a vocabulary was resized: no verb leaves them out.
#[test]
fn whole_weights_in_an_adapter_are_refused_by_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    let set = set("llama");
    for name in ["lm_head.weight", "model.embed_tokens.weight"] {
        let adapter = copy_of("lora/llama/policy", &dir.path().join(name));
        let bytes = std::fs::read(adapter.join(WEIGHTS)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let whole = format!("base_model.model.{name}");
        let mut tensors = file.tensors();
        let copied = tensors[0].1.clone();
        tensors.push((whole.clone(), copied));
        safetensors::serialize_to_file(tensors, None, &adapter.join(WEIGHTS)).unwrap();
        let output = dir.path().join("output");
        for verb in ["merge", "logp"] {
            let mut command = dqo();
            command.arg(verb).arg("--model").arg(set.join("model")).arg("--adapter").arg(&adapter);
            if verb == "logp" {
                command.args(["--device", "cpu", "--data"]).arg(set.join("rows.jsonl"));
            }
            let message = error_of(command.arg("--output").arg(&output));
            let expected = format!("{}: has {whole}, a weight of the base", adapter.join(WEIGHTS).display());
            assert!(message.starts_with(&expected), "{verb}: {message}");
            assert!(!output.exists());
        }
    }
}
