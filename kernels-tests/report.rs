//! The pages: what they say, and what they refuse.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use dqo_wgpu::files::hex;
use dqo_wgpu::report::{
    Correlation, ValuedResponse, ValuedSegment, ValuedToken, pearson, report, spearman, values_page,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::command::{copy_of, dqo, json_of};
use crate::model::{golden, json_lines};
use crate::whole_loop::done;

/// A run's directory below `root`.
pub fn run(root: &Path, name: &str, metrics: &str, config: &str) -> PathBuf {
    let dir = root.join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("metrics.jsonl"), metrics).unwrap();
    fs::write(dir.join("config.toml"), config).unwrap();
    dir
}

/// The page of one run with these files, or its error without the folder's path.
fn page_of(metrics: &str, config: &str) -> Result<String, String> {
    let root = tempfile::tempdir().unwrap();
    let dir = run(root.path(), "RUN", metrics, config);
    report(&[dir], None).map_err(|error| format!("{error:#}").replace(&format!("{}/", root.path().display()), ""))
}

#[test]
fn errors_name_the_file_and_the_line() {
    let good = "{\"step\":1,\"loss\":2}\n";
    let cases = [
        ("", "RUN/metrics.jsonl: has no rows"),
        ("\n \n", "RUN/metrics.jsonl: has no rows"),
        ("{\"step\":1,\"lo", "RUN/metrics.jsonl: has no rows"),
        ("{\"step\":1}\n", "RUN/metrics.jsonl: has no metrics beside the steps"),
        (&format!("{good}no\n"), "RUN/metrics.jsonl:2: is not a JSON object: expected ident at line 1 column 2"),
        (
            &format!("{good}\n{{\"step\":2,\"lo\n{good}"),
            "RUN/metrics.jsonl:3: is not a JSON object: EOF while parsing a string at line 1 column 13",
        ),
        (
            "[1]\n",
            "RUN/metrics.jsonl:1: is not a JSON object: invalid type: sequence, expected a map at line 1 column 0",
        ),
        ("{\"loss\":2}\n", "RUN/metrics.jsonl:1: field `step`: is missing"),
        ("{\"step\":-1}\n", "RUN/metrics.jsonl:1: field `step`: -1 is not a count of steps"),
        (
            &format!("{{\"step\":2,\"loss\":1}}\n{good}"),
            "RUN/metrics.jsonl:2: field `step`: 1 stands after step 2; are these the rows of two runs?",
        ),
    ];
    for (metrics, expected) in cases {
        assert_eq!(page_of(metrics, "").unwrap_err(), expected, "{metrics:?}");
    }
    assert_eq!(
        page_of(good, "beta = 0.03\nlambda =\n").unwrap_err(),
        "RUN/config.toml:2: is not TOML: string values must be quoted, expected literal string"
    );

    let root = tempfile::tempdir().unwrap();
    let dir = run(root.path(), "run", good, "");
    let missing = |name: &str| {
        fs::remove_file(dir.join(name)).unwrap();
        let error = format!("{:#}", report(std::slice::from_ref(&dir), None).unwrap_err());
        let begin = format!("{}: cannot be read: ", dir.join(name).display());
        assert!(error.starts_with(&begin), "{error}");
    };
    missing("config.toml");
    missing("metrics.jsonl");
    let error = report(&[], None).unwrap_err().to_string();
    assert_eq!(error, "no run is named; give the output directory of at least one");
}

#[test]
fn a_line_that_is_being_written_is_left_out() {
    let page = page_of("{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":3}\n{\"step\":3,\"loss\":4", "").unwrap();
    assert!(page.contains("loss by step. RUN: from 2 at step 1 to 3 at step 2, between 2 and 3"), "{page}");
    let whole = page_of("{\"step\":1,\"loss\":2}\n{\"step\":3,\"loss\":4}", "").unwrap();
    assert!(whole.contains("to 4 at step 3"), "a last row that is whole counts");
}

#[test]
fn runs_of_one_name_are_told_apart_by_their_paths() {
    let root = tempfile::tempdir().unwrap();
    let row = "{\"step\":1,\"loss\":2}\n";
    let runs = ["a/out", "b/out", "other"].map(|name| run(root.path(), name, row, ""));
    let page = report(&runs, None).unwrap();
    for (name, count) in [(runs[0].display().to_string(), 1), (runs[1].display().to_string(), 1), ("other".into(), 1)] {
        assert_eq!(page.matches(&format!("data-name=\"{name}\"")).count(), count, "{name}");
    }
    assert!(!page.contains("data-name=\"out\""));
}

/// The text between tags, a piece a line.
fn text_of(html: &str) -> String {
    let pieces = html.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text.trim());
    pieces.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn settings_that_differ_stand_alone_and_the_others_are_folded() {
    let root = tempfile::tempdir().unwrap();
    let row = "{\"step\":1,\"loss\":2}\n";
    let first = run(root.path(), "first", row, "alpha = 1\nbeta = 0.03\nmodel = \"m\"\n");
    let second = run(root.path(), "second", row, "alpha = 1\nbeta = 0.1\nmodel = \"m\"\nseed = 7\n");
    let page = report(&[first, second], None).unwrap();
    let found = |html: &str| text_of(html).replace('\n', " ");
    let (differing, same) = page.split("<h2>Configurations</h2>").nth(1).unwrap().split_once("<details").unwrap();
    assert_eq!(found(differing), "setting first second beta 0.03 0.1 seed not set 7");
    let same = found(same.split("</table>").next().unwrap());
    assert_eq!(same, "Settings that are the same in all runs: 2 setting value alpha 1 model m");
    // They are what the page ends with.
    assert_eq!(
        page.matches("<h2>").count(),
        page.split("<h2>Configurations</h2>").next().unwrap().matches("<h2>").count() + 1
    );
}

/// What the page says first of a run.
fn claim_of(page: &str) -> String {
    text_of(page.split("class=\"claims\"").nth(1).unwrap().split("</section>").next().unwrap()).replace('\n', " ")
}

#[test]
fn a_page_begins_with_what_each_run_did() {
    let row = |step: u32, rest: &str| {
        format!("{{\"step\":{step},\"loss\":{},\"seconds\":30{rest}}}\n", 8.0 / f64::from(step))
    };
    let evaluated = [
        row(1, ",\"num_tokens\":50,\"eval/accuracy\":0.25"),
        row(2, ",\"num_tokens\":100,\"eval/accuracy\":0.75,\"rewards/mean\":0.1"),
        row(4, ",\"num_tokens\":1500,\"eval/accuracy\":0.5,\"rewards/mean\":0.9"),
    ];
    let page = page_of(&evaluated.concat(), "method = \"dqo\"\n").unwrap();
    let expected = "RUN: dqo, 4 steps (1,500 tokens, 1 min 30 s): accuracy from 25.0 % at step 1 to 50.0 % at step 4, \
                    the best 75.0 % at step 2.";
    // The mean reward of given responses says nothing of the policy.
    assert_eq!(claim_of(&page), expected);
    let before = "{\"step\":0,\"eval/accuracy\":0.125}\n".to_owned() + &evaluated.concat();
    assert!(claim_of(&page_of(&before, "").unwrap()).contains("accuracy from 12.5 % before training to 50.0 %"));
    let online = page_of(&evaluated[1..].concat(), "method = \"ppo\"\n").unwrap();
    assert!(
        claim_of(&online).contains("and mean reward from 0.1 in the first round to 0.9 in the last"),
        "{}",
        claim_of(&online)
    );
    let lost = page_of("{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":1}\n", "method = \"sft\"\n").unwrap();
    let expected = "RUN: sft, 2 steps: loss from 2 to 1 (means of the first and the last tenth of the steps); it was not \
                    evaluated.";
    assert_eq!(claim_of(&lost), expected);
}

#[test]
fn responses_are_shown_where_the_data_is_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("rows.jsonl");
    let row =
        r#"{"prompt":"2+2","completion":"it is <5>","reward":0,"completion_ids":[1,2,3],"finish_reason":"length"}"#;
    let rows = format!(
        "{row}\n{}\n",
        row.replace("<5>", "4").replace("\"reward\":0", "\"reward\":1").replace("length", "stop")
    );
    fs::write(&data, &rows).unwrap();
    let digest = hex(&Sha256::digest(&rows));
    let config =
        format!("method = \"dqo\"\ndata = {:?}\n[inputs]\n--data = \"{digest}\"\n", data.display().to_string());
    let dir = run(root.path(), "one", "{\"step\":1,\"loss\":2}\n", &config);
    let page = report(std::slice::from_ref(&dir), None).unwrap();
    assert!(page.contains("one: 50.0 % of the responses of its data were cut off."));
    assert!(page.contains("data-edges=\"-0.5 0.5 1.5\"") && page.contains("data-shares=\"0.5 0.5\""), "rewards");
    assert!(page.contains("data-x=\"tokens of a response\"") && page.contains("it is &lt;5&gt;</pre>"));

    fs::write(&data, rows.clone() + "\n").unwrap();
    let missing = |page: &str| {
        text_of(page.split("<h2>Responses trained on</h2>").nth(1).unwrap()).lines().next().unwrap().to_owned()
    };
    let changed = report(std::slice::from_ref(&dir), None).unwrap();
    let name = data.display();
    assert_eq!(missing(&changed), format!("one: without its responses. {name}: has changed since the run read it"));
    fs::remove_file(&data).unwrap();
    let gone = report(&[dir], None).unwrap();
    assert!(
        missing(&gone).starts_with(&format!("one: without its responses. {name}: cannot be read: ")),
        "{}",
        missing(&gone)
    );
}

#[test]
fn rounds_show_how_responses_change() {
    let root = tempfile::tempdir().unwrap();
    let metrics: String = (1..=6).map(|step| format!("{{\"step\":{step},\"round\":{}}}\n", (step + 1) / 2)).collect();
    let dir = run(root.path(), "one", &metrics, "method = \"ppo\"\n");
    fs::create_dir(dir.join("rollouts")).unwrap();
    for round in 1..=3 {
        let row = |ids: &str, end: &str| {
            format!(
                "{{\"prompt\":\"p\",\"completion\":\"round {round}\",\"reward\":1,\"completion_ids\":[{ids}],\"finish_reason\":\"{end}\"}}\n"
            )
        };
        let rows = row(&vec!["7"; round].join(","), "stop") + &row("7", if round == 3 { "length" } else { "stop" });
        fs::write(dir.join(format!("rollouts/round-{round:06}.jsonl")), rows).unwrap();
    }
    let page = report(std::slice::from_ref(&dir), None).unwrap();
    assert!(page.contains("responses/length by step. one: from 1 at step 1 to 2 at step 5, between 1 and 2"));
    assert!(page.contains("responses/cut_off by step. one: from 0 at step 1 to 0.5 at step 5"));
    assert!(page.contains("data-name=\"one, round 1\"") && page.contains("data-name=\"one, round 3\""));
    assert_eq!(["round 1</pre>", "round 2</pre>", "round 3</pre>"].map(|text| page.matches(text).count()), [2, 2, 2]);
    fs::remove_file(dir.join("rollouts/round-000002.jsonl")).unwrap();
    let page = report(&[dir], None).unwrap();
    assert!(page.contains("one: without its responses. ") && page.contains("round-000002.jsonl: cannot be read"));
}

#[test]
fn evaluations_have_intervals_where_their_problems_are_counted() {
    let page = page_of("{\"step\":1,\"loss\":2,\"eval/accuracy\":1,\"eval/problems\":20}\n", "").unwrap();
    assert_eq!(page.matches("data-low=\"0.83887\" data-high=\"1\"").count(), 1, "{page}");
    assert!(!page.contains("eval/problems"), "the number has no plot of its own");
    assert!(!page_of("{\"step\":1,\"eval/accuracy\":1}\n", "").unwrap().contains("data-low"));
}

#[test]
fn metrics_stand_in_groups_and_evaluations_first_among_the_last_values() {
    let rows = "{\"step\":1,\"seconds\":0.5,\"peak_memory_bytes\":3221225472,\"grad_norm\":1,\"mine\":7,\"kl\":0,\
                \"rewards/mean\":1,\"policy_loss\":1,\"loss\":2,\"eval/accuracy\":0.25}\n\
                {\"step\":2,\"loss\":1,\"seconds\":0.25,\"note\":\"text\",\"nan\":null}\n";
    let page = page_of(rows, "").unwrap();
    let captions: Vec<&str> =
        page.split("<figcaption><b>").skip(1).map(|rest| rest.split('<').next().unwrap()).collect();
    let expected = [
        "policy_loss",
        "loss",
        "eval/accuracy",
        "rewards/mean",
        "kl",
        "grad_norm",
        "seconds",
        "peak_memory_bytes",
        "mine",
    ];
    assert_eq!(captions, expected);
    let table = text_of(page.split("<h2>Last values</h2>").nth(1).unwrap().split("</table>").next().unwrap());
    assert!(table.starts_with("metric\nRUN\nEvaluation\neval/accuracy\n0.25\nat step 1\nLosses\n"), "{table}");
    assert!(table.contains("peak_memory_bytes\n3.0 GiB\nat step 1"), "{table}");
    assert!(page.contains("peak_memory_bytes by step. RUN: 3 GiB at step 1"));
}

#[test]
fn long_curves_are_thinned_and_their_extremes_stay() {
    let mut rows = String::new();
    for step in 1..=30_000 {
        let loss = if step == 12_345 { 777.0 } else { f64::from(step % 10) };
        writeln!(rows, "{{\"step\":{step},\"loss\":{loss}}}").unwrap();
    }
    let page = page_of(&rows, "").unwrap();
    let curve = page.split("class=\"line curve").nth(1).unwrap().split("data-steps=\"").nth(1).unwrap();
    let attribute = |name: &str| -> Vec<&str> {
        let text = if name.is_empty() { curve } else { curve.split(name).nth(1).unwrap() };
        text.split('"').next().unwrap().split(' ').collect()
    };
    let (steps, values, means) = (attribute(""), attribute("data-values=\""), attribute("data-means=\""));
    assert!((900..=1002).contains(&steps.len()), "{}", steps.len());
    assert_eq!((steps.len(), 500), (values.len(), means.len()));
    assert_eq!((steps[0], steps[steps.len() - 1]), ("1", "30000"));
    let spike = steps.iter().position(|step| *step == "12345").expect("the spike stays");
    assert_eq!(values[spike], "777");
    assert!(page.contains("between 0 and 777"));
}

#[test]
fn what_files_say_is_shown_as_text() {
    let root = tempfile::tempdir().unwrap();
    let evil = "<script>alert('1')</script>";
    let metrics = "{\"step\":1,\"<script>alert('1')\":1}\n";
    let dir = run(root.path(), "<img src=x onerror=alert(1)>", metrics, &format!("model = \"{evil}\"\n"));
    let page = report(&[dir], None).unwrap();
    assert_eq!(page.matches("<script>").count(), 1, "the page's own");
    assert!(!page.contains("<img"));
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"));

    let token = |text: &str| ValuedToken {
        text: text.into(),
        value: f64::NAN,
        change: f64::INFINITY,
        advantage: None,
        step_reward: 0.0,
    };
    let segment =
        ValuedSegment { text: evil.into(), first: 0, end: 9, value: f64::NAN, process_reward: Some(f64::NAN) };
    let response = ValuedResponse {
        line: 1,
        prompt: evil.into(),
        tokens: vec![token(evil), token(""), token("\u{fffd}"), token("a\r\n\0&\"")],
        segments: vec![segment],
        reward: None,
        right: None,
        first_wrong: None,
    };
    let empty = ValuedResponse {
        line: 2,
        prompt: String::new(),
        tokens: Vec::new(),
        segments: Vec::new(),
        reward: None,
        right: None,
        first_wrong: None,
    };
    let nothing = Correlation { pearson: f64::NAN, spearman: f64::NAN, count: 0 };
    let page = values_page("<b>", &[response, empty], Some(&nothing));
    assert_eq!(page.matches("<script>").count(), 1, "the page's own");
    assert!(page.contains("<title>&lt;b&gt;</title>") && page.contains("a&#13;<i></i>\n\u{fffd}&amp;&quot;"));
    assert!(values_page("none", &[], None).contains("There are no responses."));
}

/// Steps are paragraphs, or lines where a response has no blank line; or what process rewards were given for, and what is
/// behind the last of them is not judged.
#[test]
fn segments_are_the_steps_of_a_response() {
    let root = tempfile::tempdir().unwrap();
    let value = copy_of("ppo/value", &root.path().join("value"));
    fs::copy(golden("ppo/policy").join("tokenizer.json"), value.join("tokenizer.json")).unwrap();
    let ids = json_lines(&golden("ppo/round.jsonl"))[0]["completion_ids"].clone();
    let steps = json!([{ "end": 1, "reward": 0.5 }, { "end": 2, "reward": 0 }]);
    let rows = [
        json!({ "prompt": "1+1", "completion": "1\n2\n3", "reward": 0 }),
        json!({ "prompt": "1+1", "completion": "1\n2\n\n3", "reward": 1 }),
        json!({ "prompt_ids": [5, 16, 0, 8], "completion_ids": ids, "reward": 0, "step_rewards": steps }),
    ];
    let (data, output) = (root.path().join("rows.jsonl"), root.path().join("values.jsonl"));
    fs::write(&data, rows.map(|row| row.to_string() + "\n").concat()).unwrap();
    let mut command = dqo();
    command.args(["values", "--device", "cpu", "--value"]).arg(&value).arg("--data").arg(&data);
    let said = json_of(command.arg("--json").arg("--output").arg(&output));
    let found = json_lines(&output);
    let texts = |row: usize| {
        let segments = found[row]["segments"].as_array().unwrap();
        segments.iter().map(|segment| segment["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (texts(0), texts(1)),
        (vec!["1\n".into(), "2\n".into(), "3".into()], vec!["1\n2\n\n".into(), "3".into()])
    );
    let judged = found[2]["segments"].as_array().unwrap().iter().map(|segment| segment["process_reward"].as_f64());
    assert_eq!(judged.collect::<Vec<_>>(), [Some(1.0), Some(0.0), None]);
    assert!(said["outcome_auc"].as_f64().is_some() && said["segment_auc"].as_f64().is_some(), "{said}");
    let page = output.with_extension("html");
    done(
        dqo()
            .args(["values", "--device", "cpu", "--value"])
            .arg(&value)
            .arg("--data")
            .arg(&data)
            .arg("--output")
            .arg(&page),
    );
    let page = fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("first wrong step</b>").count(), 1);
    assert!(page.contains("AUC of the outcome") && page.contains("AUC of segments"));
}

/// Against numpy 2; the ranks by hand: 1 5 3 3 0 6 3 and 3 4.5 4.5 2 0 6 1.
#[test]
fn correlations_are_numpys() {
    let x = [0.1, 0.9, 0.4, 0.4, -2.0, 3.5, 0.4];
    let y = [1.0, 2.0, 2.0, 0.5, -1.0, 9.0, 0.25];
    let close = |found: Option<f64>, expected: f64| {
        assert!((found.unwrap() - expected).abs() < 1e-14, "{found:?} is not {expected}");
    };
    close(pearson(&x, &y), 0.9231246791986125);
    close(spearman(&x, &y), 0.7853554716071041);
    let line: Vec<f64> = (0..10).map(f64::from).collect();
    let exponential: Vec<f64> = line.iter().map(|x| x.exp()).collect();
    close(pearson(&line, &exponential), 0.7168704019730289);
    close(spearman(&line, &exponential), 1.0);
    close(pearson(&[1e200, 2e200, 4e200], &[3.0, 1.0, 2.0]), -0.32732683535398854);
    for (x, y) in [
        (&[][..], &[][..]),
        (&[1.0], &[1.0]),
        (&[1.0, 2.0], &[1.0]),
        (&[1.0, 2.0], &[0.1, 0.1]),
        (&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]),
        (&[1.0, f64::NAN], &[1.0, 2.0]),
        (&[1.0, f64::INFINITY, 2.0], &[1.0, 2.0, 3.0]),
    ] {
        assert_eq!((pearson(x, y), spearman(x, y)), (None, None), "{x:?} {y:?}");
    }
}
