//! The pages: what they say, what they refuse, and how they behave in a browser.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use dqo_wgpu::report::{
    Correlation, ValuedResponse, ValuedSegment, ValuedToken, pearson, report, spearman, values_page,
};
use tempfile::TempDir;

use crate::browser::Browser;

/// A run's directory below `root`.
fn run(root: &Path, name: &str, metrics: &str, config: &str) -> PathBuf {
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
fn settings_that_differ_come_first() {
    let root = tempfile::tempdir().unwrap();
    let row = "{\"step\":1,\"loss\":2}\n";
    let first = run(root.path(), "first", row, "alpha = 1\nbeta = 0.03\nmodel = \"m\"\n");
    let second = run(root.path(), "second", row, "alpha = 1\nbeta = 0.1\nmodel = \"m\"\nseed = 7\n");
    let page = report(&[first, second], None).unwrap();
    let table = text_of(page.split("<h2>Configurations</h2>").nth(1).unwrap().split("</table>").next().unwrap());
    let expected = "setting first second Different ≠ differs: beta 0.03 0.1 ≠ differs: seed notset 7 \
                    Thesameinallruns alpha 1 1 model m m";
    let found: Vec<String> = table.lines().map(|line| line.replace(' ', "")).collect();
    assert_eq!(found.join(" "), expected);
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
    let curve = page.split("data-steps=\"").nth(1).unwrap();
    let attribute = |name: &str| -> Vec<&str> {
        let text = if name.is_empty() { curve } else { curve.split(name).nth(1).unwrap() };
        text.split('"').next().unwrap().split(' ').collect()
    };
    let (steps, values, points) = (attribute(""), attribute("data-values=\""), attribute(" points=\""));
    assert!((900..=1002).contains(&steps.len()), "{}", steps.len());
    assert_eq!((steps.len(), steps.len()), (values.len(), points.len()));
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

/// A page in a file of its own.
fn saved(html: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("page.html");
    fs::write(&file, html).unwrap();
    (dir, file)
}

/// Fails where the page is wider than its window, or lacks what a screen reader needs.
#[track_caller]
fn check_shell(browser: &Browser) {
    let wide = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth", &[]);
    assert_eq!(wide, 0, "the page scrolls sideways");
    let nameless = "return [...document.querySelectorAll('[role=img], [role=region], [role=group]')]\
                    .filter(element => !element.ariaLabel).length";
    assert_eq!(browser.run(nameless, &[]), 0, "an element has no accessible name");
    assert_eq!(browser.run("return document.documentElement.lang", &[]), "en");
    assert_eq!(browser.count("h1"), 1);
}

#[test]
fn a_page_of_runs_works_in_a_browser() {
    let root = tempfile::tempdir().unwrap();
    let rows = |scale: f64| -> String {
        let row = |step: u32| {
            let loss = scale / f64::from(step);
            format!("{{\"step\":{step},\"loss\":{loss},\"seconds\":1,\"eval/accuracy\":0.5}}\n")
        };
        (1..=11).map(row).collect()
    };
    let one = run(root.path(), "one", &rows(1.0), "beta = 0.03\n");
    let two = run(root.path(), "two <&>", &rows(3.0), "beta = 0.1\n");
    let (_dir, file) = saved(&report(&[one, two], None).unwrap());
    let Some(browser) = Browser::open(&file) else { return };
    check_shell(&browser);
    assert_eq!(browser.count("svg.plot"), 3);
    assert_eq!(browser.count("polyline.curve"), 6);
    let name = browser.run("return arguments[0].ariaLabel", &["svg.plot"]);
    let expected = "loss by step. one: from 1 at step 1 to 0.090909 at step 11, between 0.090909 and 1; \
                    two <&>: from 3 at step 1 to 0.27273 at step 11, between 0.27273 and 3";
    assert_eq!(name, expected);

    // Steps 1 to 11 lie between 40 and 346 of 360: step 6 is 13 right of the middle.
    let scale = browser.run("return arguments[0].clientWidth / 360", &["svg.plot"]).as_f64().unwrap();
    browser.hover("svg.plot", ((13.0 * scale) as i32, 0));
    assert_eq!(browser.text("#tip"), "step 6\none\n0.16667\ntwo <&>\n0.5");
    assert_eq!(browser.count("svg.plot .spot.on"), 2);
    browser.hover("h1", (0, 0));
    assert_eq!(browser.run("return arguments[0].hidden", &["#tip"]), true);

    browser.run("arguments[0].focus()", &["svg.plot"]);
    assert!(browser.text("#tip").starts_with("step 6\n"), "the step that was looked at last");
    browser.press("\u{e010}");
    assert_eq!(browser.text("#tip"), "step 11\none\n0.090909\ntwo <&>\n0.27273");
    browser.press("\u{e012}");
    assert_eq!(browser.text("#tip"), "step 10\none\n0.1\ntwo <&>\n0.3");

    browser.click(".chip[data-run='0']");
    assert_eq!(browser.count("polyline.curve:not(.off)"), 3);
    browser.run("arguments[0].focus()", &["svg.plot"]);
    assert_eq!(browser.text("#tip"), "step 10\ntwo <&>\n0.3");
    browser.click(".chip[data-run='0']");
    assert_eq!(browser.count("polyline.curve:not(.off)"), 6);
    assert_eq!(browser.run("return arguments[0].textContent", &["tr.differs"]), "≠ differs: beta0.030.1");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    // The page's policy stops what a script asks for, and the browser says so: the silence before meant something.
    browser.run("return fetch('http://127.0.0.1:9/').catch(() => 0)", &[]);
    assert!(browser.complaints().join("").contains("Content Security Policy"));

    browser.resize(360);
    check_shell(&browser);
}

/// A response of one token a word, as `dqo-wgpu values` makes them; V rises by a tenth each.
fn response(line: usize, words: &[&str], right: Option<bool>) -> ValuedResponse {
    let value = |index: usize| (index as f64) / 10.0;
    let token = |(index, text): (usize, &&str)| ValuedToken {
        text: (*text).into(),
        value: value(index),
        change: 0.1,
        advantage: (index > 0).then_some(-0.25),
        step_reward: if index == 1 { 0.5 } else { 0.0 },
    };
    let end = words.len();
    ValuedResponse {
        line,
        prompt: "What is <b>?".into(),
        tokens: words.iter().enumerate().map(token).collect(),
        segments: vec![ValuedSegment {
            text: words[..2].concat(),
            first: 0,
            end: 2,
            value: value(end),
            process_reward: Some(0.5),
        }],
        reward: right.map(|right| f64::from(u8::from(right))),
        right,
        first_wrong: None,
    }
}

#[test]
fn a_page_of_values_works_in_a_browser() {
    let words = ["<script>", "document.title = 1", "</script>", "\n\n", "", "\u{fffd}", "  end"];
    let responses = [response(1, &words, Some(true)), response(4, &words, Some(false)), response(5, &words, None)];
    let correlation = Correlation { pearson: 0.5, spearman: 0.25, count: 3 };
    let (_dir, file) = saved(&values_page("Values & more", &responses, Some(&correlation)));
    let Some(browser) = Browser::open(&file) else { return };
    check_shell(&browser);
    assert_eq!(browser.run("return document.title", &[]), "Values & more");
    assert_eq!(browser.run("return arguments[0].textContent", &[".text"]), words.concat());
    assert_eq!(browser.count("svg.spark polyline"), 3);
    assert_eq!(browser.text(".badge"), "✓ right");
    assert!(browser.text(".summary").contains("Spearman's correlation\n0.25"));

    browser.hover(".text span:nth-child(2)", (0, 0));
    let expected = "2  \"document.title = 1\"\nV before it\n0.1\nchange of V\n+0.1\nadvantage\n-0.25\nreward here\n0.5";
    assert_eq!(browser.text("#tip"), expected);
    let colour = |child: u32| {
        let selector = format!(".text span:nth-child({child})");
        let colour = browser.run("return getComputedStyle(arguments[0]).backgroundColor", &[&selector]);
        colour.as_str().unwrap().to_owned()
    };
    assert!(colour(1) != colour(4) && colour(4) != colour(7) && colour(1) != colour(7), "V has colours");
    // A token without text, and one that is a line break, can be pointed at.
    for (child, title) in [(4, r#"4  "\n\n""#), (5, r#"5  """#)] {
        let selector = format!(".text span:nth-child({child})");
        let script = "const b = arguments[0].getClientRects()[0]; \
                      return document.elementFromPoint(b.left + b.width / 2, \
                      b.top + b.height / 2).closest('span') === arguments[0]";
        assert_eq!(browser.run(script, &[&selector]), true, "{title}");
        browser.run("arguments[0].dispatchEvent(new Event('pointerover', { bubbles: true }))", &[&selector]);
        assert!(browser.text("#tip").starts_with(title), "{}", browser.text("#tip"));
    }

    browser.run("arguments[0].focus()", &[".text [tabindex]"]);
    assert!(
        browser.text("#tip").starts_with("1  \"<script>\"\nV before it\n0\nchange of V"),
        "{}",
        browser.text("#tip")
    );
    browser.press("\u{e010}");
    assert!(browser.text("#tip").contains("7  \"  end\"\nV before it\n0.6\nreward less V\n+0.1"));
    assert_eq!(browser.count(".here.on"), 1);
    browser.press("\u{e00c}");
    assert_eq!(browser.run("return arguments[0].hidden", &["#tip"]), true);

    browser.hover("tr[data-first]", (0, 0));
    assert_eq!(browser.count(".text span.lit"), 2);
    let shown = || {
        browser.run(
            "return [...document.querySelectorAll('article')].filter(a => a.offsetHeight).map(a => a.id).join()",
            &[],
        )
    };
    for (choice, expected) in
        [("right", "response-1"), ("wrong", "response-2"), ("all", "response-1,response-2,response-3")]
    {
        browser.click(&format!("button[data-show='{choice}']"));
        assert_eq!(shown(), expected);
        assert_eq!(browser.text("[aria-pressed=true]").split(' ').rev().nth(1).unwrap(), choice);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());

    browser.resize(360);
    check_shell(&browser);
    let below = "const [a, b] = [...document.querySelector('.sides').children].map(e => e.getBoundingClientRect()); \
                 return b.top >= a.bottom";
    assert_eq!(browser.run(below, &[]), true, "the segments stand below the text on a phone");
}
