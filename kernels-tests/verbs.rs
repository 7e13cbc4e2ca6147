//! The verbs as a user runs them.

use serde_json::{Value, json};

use crate::command::{dqo, error_of, json_of, stderr, train};
use crate::harness::skip_gpu;
use crate::model::{floats, golden, json_lines};

#[test]
fn devices_lists_the_adapters() {
    let listed = json_of(dqo().args(["devices", "--json"]));
    assert!(listed["cpu"]["threads"].as_u64().unwrap() > 0);
    if !skip_gpu() {
        let adapter = &listed["adapters"][0];
        assert!(adapter["max_binding_bytes"].as_u64().unwrap() >= 1 << 20, "{adapter}");
    }
    let text = dqo().arg("devices").output().unwrap();
    assert!(String::from_utf8(text.stdout).unwrap().contains("cpu  the kernels' CPU twins"));
}

#[test]
fn plan_says_what_train_takes_and_writes_nothing() {
    let set = golden("dqo/llama");
    let dir = tempfile::tempdir().unwrap();
    let mut command = dqo();
    command.args(["plan", "--method", "dqo", "--device", "cpu", "--json", "--batch-size", "2"]).current_dir(dir.path());
    command.arg("--model").arg(set.join("policy")).arg("--data").arg(set.join("rows.jsonl"));
    let plan = json_of(&mut command);
    assert_eq!((plan["steps"].as_u64(), plan["rows"].as_u64()), (Some(2), Some(4)));
    let buffers = plan["buffers"].as_array().unwrap();
    assert!(buffers.iter().any(|buffer| buffer["name"] == "policy/weights/model.layers.0.mlp.up_proj.weight"));
    let total: u64 = buffers.iter().map(|buffer| buffer["bytes"].as_u64().unwrap()).sum();
    assert_eq!(plan["peak_bytes"].as_u64().unwrap(), total);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn plan_lists_buffers_where_it_is_asked_to() {
    let plan = |options: &[&str]| {
        let mut command = dqo();
        command
            .args(["plan", "--method", "sft", "--device", "cpu", "--model"])
            .arg(golden("dqo/llama/policy"))
            .args(options);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let (short, long) = (plan(&[]), plan(&["--buffers"]));
    assert!(short.contains("policy weights") && !short.contains("policy/weights/"), "{short}");
    assert!(long.starts_with(short.trim_end()), "{long}");
    let buffers = json_of(
        dqo().args(["plan", "--method", "sft", "--device", "cpu", "--json", "--model"]).arg(golden("dqo/llama/policy")),
    );
    for buffer in buffers["buffers"].as_array().unwrap() {
        assert!(long.contains(buffer["name"].as_str().unwrap()), "{buffer}");
    }
}

#[test]
fn logp_writes_a_row_for_each_row() {
    let model = golden("models/qwen2");
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("logps.jsonl");
    let mut command = dqo();
    command.args(["logp", "--device", "cpu", "--model"]).arg(&model);
    command.arg("--data").arg(model.join("rows.jsonl")).arg("--output").arg(&output);
    assert!(command.output().unwrap().status.success());
    let (rows, expected) = (json_lines(&output), json_lines(&model.join("logps.jsonl")));
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(&expected) {
        for name in ["logps", "entropies"] {
            let (found, expected) = (floats(&row[name]), floats(&expected[name]));
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= 2e-5));
        }
    }
}

#[test]
fn a_recorded_configuration_repeats_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let mut command = train("dqo/llama", &golden("dqo/llama/rows.jsonl"), &first);
    command.args(["--learning-rate", "1e-3", "--beta", "0.1", "--policy-is", "false", "--max-steps", "3"]);
    assert!(command.output().unwrap().status.success());
    // The file says everything; what is typed wins over it.
    let mut again = dqo();
    again.args(["train", "--config"]).arg(first.join("config.toml")).arg("--output-dir").arg(&second);
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for file in ["final/policy/model.safetensors", "final/value/model.safetensors", "final/policy/config.json"] {
        assert!(std::fs::read(first.join(file)).unwrap() == std::fs::read(second.join(file)).unwrap(), "{file}");
    }
    let config = std::fs::read_to_string(second.join("config.toml")).unwrap();
    assert!(config.contains("beta = 0.1") && config.contains("policy_is = false"), "{config}");
}

#[test]
fn a_value_network_is_written_as_a_token_classifier() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    assert!(train("dqo/gemma", &golden("dqo/gemma/rows.jsonl"), &output).output().unwrap().status.success());
    let config: Value =
        serde_json::from_slice(&std::fs::read(output.join("final/value/config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "GemmaForTokenClassification");
    assert_eq!(config["num_labels"], 1);
    let config: Value =
        serde_json::from_slice(&std::fs::read(output.join("final/policy/config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "GemmaForCausalLM");
    assert_eq!(config["dtype"], "float32");
}

#[test]
fn bench_builds_every_pipeline_of_a_kernel_and_says_how_long_it_took() {
    let error = error_of(dqo().args(["bench", "--device", "cpu", "--compile-only"]));
    assert!(error.starts_with("--device cpu is the CPU device here, which compiles nothing"), "{error}");
    if skip_gpu() {
        return;
    }
    let arguments = ["bench", "--device", "gpu", "--compile-only", "--kernel", "rope_cached"];
    let result = json_of(dqo().args(arguments).arg("--json"));
    let pipelines = result["pipelines"].as_array().unwrap();
    let names: Vec<_> = pipelines.iter().map(|built| built["kernel"].as_str().unwrap()).collect();
    assert_eq!(names, ["rope_cached (scalar)", "rope_cached (vec4)"]);
    let sum: f64 = pipelines.iter().map(|built| built["seconds"].as_f64().unwrap()).sum();
    assert!(sum > 0.0 && (result["seconds"].as_f64().unwrap() - sum).abs() < 1e-9, "{result}");

    let output = dqo().args(arguments).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.contains(" ms  rope_cached (scalar)\n") && lines.contains("\n2 pipelines in "), "{lines}");
}

#[test]
fn bench_times_a_kernel_and_holds_it_against_its_limit() {
    let result = json_of(dqo().args(["bench", "--device", "cpu", "--kernel", "gated_mlp", "--json"]));
    let rows = result["kernels"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(row["seconds"].as_f64().unwrap() > 0.0 && row["share"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["error"].as_f64().unwrap() <= 1e-5, "{row}");
    }
}

#[test]
fn bench_has_large_rows_and_says_what_it_ran_on() {
    let result =
        json_of(dqo().args(["bench", "--device", "cpu", "--kernel", "log_softmax", "--rows", "large", "--json"]));
    assert_eq!(result["version"], env!("CARGO_PKG_VERSION"));
    assert!(result["device"].as_str().unwrap().starts_with("CPU (f32"), "{result}");
    assert!(result["limits"]["flops"].as_f64().unwrap() > 0.0 && result["limits"]["bytes"].as_f64().unwrap() > 0.0);
    assert_eq!((&result["left_out"], &result["interrupted"]), (&json!([]), &json!(false)));
    let [row] = &result["kernels"].as_array().unwrap()[..] else { panic!("{result}") };
    assert_eq!((&row["kernel"], &row["unit"]), (&json!("log_softmax"), &json!("B/s")));
    assert!(row["shape"].as_str().unwrap().starts_with("2048 x 4096"), "{row}");
    assert!(row["error"].as_f64().unwrap() <= 1e-5, "{row}");
}

#[test]
fn bench_trains_and_decodes_random_weights_in_a_shape() {
    let step = ["bench", "--device", "cpu", "--step", "--shape", "small", "--lora-r", "4", "--dtype", "bf16", "--json"];
    let result = json_of(dqo().args(step));
    assert_eq!(result["model"], json!({ "shape": "small", "dtype": "bf16", "lora_r": 4 }));
    assert_eq!((&result["sequences"], &result["tokens"]), (&json!(8), &json!(128)));
    assert_eq!((&result["config"]["hidden_size"], &result["config"]["vocab_size"]), (&json!(256), &json!(4096)));
    assert!(result["step"]["tokens_per_second"].as_f64().unwrap() > 0.0, "{result}");

    let decode = ["bench", "--device", "cpu", "--decode", "--shape", "small", "--batch-size", "2", "--json"];
    let result = json_of(dqo().args(decode));
    assert_eq!((&result["weights"], &result["dtype"]), (&json!({ "random": "small" }), &json!("f32")));
    assert!(result["decode"]["tokens_per_second"].as_f64().unwrap() > 0.0, "{result}");
}
