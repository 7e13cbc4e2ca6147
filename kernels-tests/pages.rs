//! How pages behave in a browser: on a laptop and on a phone, light and dark.

use std::fs;
use std::path::PathBuf;

use dqo_wgpu::report::{Correlation, ValuedResponse, ValuedSegment, ValuedToken, report, values_page};
use tempfile::TempDir;

use crate::browser::Browser;
use crate::report::run;

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

/// Fails where the page does not fit or complains at any of the widths and colours that it is made for.
#[track_caller]
pub fn check_everywhere(browser: &Browser) {
    for width in [1280, 400] {
        for dark in [false, true] {
            browser.resize(width);
            browser.set_dark(dark);
            check_shell(browser);
            let hidden = "return [...document.querySelectorAll('figure, article, .bar, button')].filter(element => { \
                          const box = element.getBoundingClientRect(); \
                          return box.width && !element.closest('.controls, .wide') && \
                          (box.left < 0 || box.right > document.documentElement.clientWidth); }).length";
            assert_eq!(browser.run(hidden, &[]), 0, "something is cut off at {width}");
            let page = browser.run("return getComputedStyle(document.documentElement).backgroundColor", &[]);
            assert_eq!(page == "rgb(18, 19, 22)", dark, "{page}");
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
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
    assert_eq!(browser.complaints(), Vec::<String>::new());
    // The page's policy stops what a script asks for, and the browser says so: the silence before meant something.
    browser.run("return fetch('http://127.0.0.1:9/').catch(() => 0)", &[]);
    assert!(browser.complaints().join("").contains("Content Security Policy"));
    check_everywhere(&browser);
}

/// Chooses of a list as a reader does.
fn choose(browser: &Browser, list: &str, value: &str) {
    let script = format!("arguments[0].value = '{value}'; arguments[0].dispatchEvent(new Event('change'))");
    browser.run(&script, &[list]);
}

/// What the labels of a plot's axis of steps, tokens or time say.
fn place_labels(browser: &Browser, figure: u32) -> String {
    let script = format!(
        "const all = [...document.querySelectorAll('svg.plot')[{figure}].querySelectorAll('text')]; \
         const low = Math.max(...all.map(t => +t.getAttribute('y'))); \
         return all.filter(t => +t.getAttribute('y') === low).map(t => t.textContent).sort().join(', ')"
    );
    browser.run(&script, &[]).as_str().unwrap().to_owned()
}

#[test]
fn curves_are_drawn_as_their_reader_chooses() {
    let root = tempfile::tempdir().unwrap();
    let row = |step: u32| {
        let noisy = 1.0 + 0.01 * f64::from(step % 2);
        let loss = 10f64.powi(-(step as i32 % 100) / 20);
        format!(
            "{{\"step\":{step},\"loss\":{loss},\"entropy\":{noisy},\"num_tokens\":{},\"seconds\":60}}\n",
            500 * step
        )
    };
    let dir = run(root.path(), "one", &(1..=80).map(row).collect::<String>(), "");
    let (_dir, file) = saved(&report(&[dir], None).unwrap());
    let Some(browser) = Browser::open(&file) else { return };
    assert_eq!(place_labels(&browser, 0), "1, 20, 40, 60, step 80");
    choose(&browser, "#axis", "tokens");
    assert_eq!(place_labels(&browser, 0), "10k, 20k, 30k, 40k tokens, 500");
    choose(&browser, "#axis", "seconds");
    assert_eq!(place_labels(&browser, 0), "1, 20, 40, 60, 80 min");
    browser.run("arguments[0].focus()", &["svg.plot"]);
    assert_eq!(browser.text("#tip"), "80 min\none, step 80\n1e-4");
    choose(&browser, "#axis", "steps");

    // Noise of a hundredth takes a tenth of the height of 156, whatever is drawn beside it.
    let height = "const y = [...document.querySelectorAll('.curve')[1].points].map(p => p.y); \
                  return Math.max(...y) - Math.min(...y)";
    let height = browser.run(height, &[]).as_f64().unwrap();
    assert!((5.0..20.0).contains(&height), "{height}");

    let levels = "return [...new Set([...document.querySelector('.curve').points].map(p => Math.round(p.y)))].length";
    assert!(browser.run(levels, &[]).as_u64().unwrap() <= 4, "0.1 and below lie on one another");
    browser.click("#log");
    let gaps = "const y = [...document.querySelector('.curve').points].map(p => p.y); \
                return [y[30] - y[10], y[50] - y[30], y[70] - y[50]].map(Math.round).join()";
    let gaps = browser.run(gaps, &[]).as_str().unwrap().to_owned();
    assert_eq!(gaps.split(',').collect::<std::collections::HashSet<_>>().len(), 1, "a decade is a decade: {gaps}");
    browser.click("#log");

    assert_eq!(browser.count(".mean"), 1, "where noisy: the entropy");
    choose(&browser, "#smooth", "none");
    assert_eq!((browser.count(".mean"), browser.count(".pale")), (0, 0));
    let reach = "const y = [...document.querySelectorAll('.mean')[1].points].map(p => p.y); \
                 return Math.max(...y) - Math.min(...y)";
    let reaches = ["light", "strong"].map(|strength| {
        choose(&browser, "#smooth", strength);
        assert_eq!(browser.count(".mean"), 4);
        browser.run(reach, &[]).as_f64().unwrap()
    });
    assert!(reaches[1] < reaches[0] && reaches[0] < height, "{reaches:?} of {height}");
    assert_eq!(browser.run("return ticks(-.07, .31, 4).map(tick => tick.label).join(' ')", &[]), "0 0.1 0.2 0.3");
    assert_eq!(
        browser.run("return ticks(0, 1.2e6, 4).map(tick => tick.label).join(' ')", &[]),
        "0 0.2M 0.4M 0.6M 0.8M 1.0M 1.2M"
    );
    assert_eq!(
        browser.run("return ticks(0, 1e-5, 4).map(tick => tick.label).join(' ')", &[]),
        "0 2e-6 4e-6 6e-6 8e-6 1e-5"
    );
    assert_eq!(
        browser.run("return logTicks(.05, 20).map(tick => tick.label).join(' ')", &[]),
        "0.05 0.1 0.2 0.5 1 2 5 10 20"
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn figures_are_saved_as_points_and_as_pictures() {
    let root = tempfile::tempdir().unwrap();
    let rows = "{\"step\":1,\"num_tokens\":9,\"seconds\":0.5}\n\
        {\"step\":2,\"num_tokens\":18,\"seconds\":0.25,\"eval/accuracy\":1,\"eval/problems\":20}\n";
    let dir = run(root.path(), "a, \"b\"", rows, "");
    let (_dir, file) = saved(&report(&[dir], None).unwrap());
    let Some(browser) = Browser::open(&file) else { return };
    let whisker = browser.run("return arguments[0].getAttribute('d').length", &[".whisker"]);
    assert!(whisker.as_u64().unwrap() > 5, "the interval is drawn");
    let csv = browser.saved_by(".save button:first-child", "eval-accuracy.csv");
    let expected = "run,step,tokens,seconds,eval/accuracy,low,high\n\"a, \"\"b\"\"\",2,18,0.75,1,0.83887,1\n";
    assert_eq!(String::from_utf8(csv).unwrap(), expected);
    let png = browser.saved_by(".save button:last-child", "eval-accuracy.png");
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!((size(16), size(20)), (3 * 360, 3 * (28 + 190 + 18 + 10)));
}

#[test]
fn a_page_that_is_written_again_is_read_again_as_its_reader_left_it() {
    let root = tempfile::tempdir().unwrap();
    let rows = |last: u32| (1..=last).map(|step| format!("{{\"step\":{step},\"loss\":{step}}}\n")).collect::<String>();
    let runs = ["one", "two"].map(|name| run(root.path(), name, &rows(3), "beta = 1\n"));
    let (_dir, file) = saved(&report(&runs, Some(3)).unwrap());
    let Some(browser) = Browser::open(&file) else { return };
    // All at once, as the page may be read again between two commands.
    let leave = "document.getElementById('log').click(); \
                 const smooth = document.getElementById('smooth'); \
                 smooth.value = 'strong'; smooth.dispatchEvent(new Event('change')); \
                 document.querySelector('.chip[data-run=\"1\"]').click(); \
                 document.querySelector('details').open = true; scrollTo(0, 200)";
    browser.run(leave, &[]);
    run(root.path(), "one", &rows(7), "beta = 1\n");
    fs::write(&file, report(&runs, None).unwrap()).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(4));
    let is_new = || place_labels(&browser, 0).contains("step 7");
    for _ in 0..100 {
        if is_new() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(is_new(), "the page was read again");
    // The last page reads nothing again, and is as it was left for all that.
    let state = "return [document.getElementById('log').ariaPressed, document.getElementById('smooth').value, \
                 document.querySelector('.chip[data-run=\"1\"]').ariaPressed, document.querySelector('details').open, \
                 scrollY, document.body.dataset.reload ?? 'none'].join()";
    assert_eq!(browser.run(state, &[]), "true,strong,false,true,200,none");
    assert_eq!(browser.count("polyline.curve:not(.off)"), 1);
    assert_eq!(browser.complaints(), Vec::<String>::new());
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
        first_wrong: (right == Some(false)).then_some(0),
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
    assert!(browser.text(".summary").contains("AUC of the outcome\n0.5"), "{}", browser.text(".summary"));

    browser.hover(".text span:nth-child(2)", (0, 0));
    let expected = "2  \"document.title = 1\"\nV before it\n0.1\nchange of V\n+0.1\nadvantage\n-0.25\nreward here\n0.5";
    assert_eq!(browser.text("#tip"), expected);
    let colour = |child: u32| {
        let selector = format!(".text span:nth-child({child})");
        let colour = browser.run("return getComputedStyle(arguments[0]).backgroundColor", &[&selector]);
        colour.as_str().unwrap().to_owned()
    };
    assert!(colour(1) != colour(4) && colour(4) != colour(7) && colour(1) != colour(7), "V has colours");
    // From 0 to 1, 0.6 is near the middle; of this page it is the highest.
    let (of_unit, window) = (colour(7), browser.run("return arguments[0].getAttribute('viewBox')", &[".spark"]));
    assert_eq!(browser.text(".scale .marks.unit"), "≤ 0\n0.5\n≥ 1");
    browser.click("#stretch");
    assert_ne!(colour(7), of_unit);
    assert_ne!(browser.run("return arguments[0].getAttribute('viewBox')", &[".spark"]), window);
    assert!(browser.text(".scale .marks.own").ends_with("≥ 0.6"), "{}", browser.text(".scale .marks.own"));
    browser.click("#stretch");
    assert_eq!(colour(7), of_unit);
    // The first wrong step, in the text, in the line and in the table.
    assert_eq!(
        browser.run("return [...document.querySelectorAll('.text .slip')].map(t => t.textContent).join('')", &[]),
        words[..2].concat()
    );
    assert_eq!((browser.count("rect.slip"), browser.text("td .slip")), (1, "first wrong step".to_owned()));
    assert!(browser.text(".summary").contains("mean V before the first wrong step\n0\nmean V at its end\n0.7"));
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
    check_everywhere(&browser);
    let below = "const [a, b] = [...document.querySelector('.sides').children].map(e => e.getBoundingClientRect()); \
                 return b.top >= a.bottom";
    assert_eq!(browser.run(below, &[]), true, "the segments stand below the text on a phone");
}
