//! Grading against what the evaluators of GSM8K and MATH say, and against every reference solution.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use dqo_wgpu::grade::{Grading, MathEqual, Task};
use serde_json::Value;

const STRICT: Grading = Grading { flexible: false, math_equal: MathEqual::Hendrycks };
const FLEXIBLE: Grading = Grading { flexible: true, math_equal: MathEqual::Hendrycks };
const RATIONAL: Grading = Grading { flexible: false, math_equal: MathEqual::Rational };

/// What is right in a table's row.
#[derive(Clone, Copy, PartialEq)]
enum Right {
    /// In either mode.
    Both,
    /// In the data set's own mode only.
    Own,
    /// In the flexible or rational mode only.
    Loose,
    Neither,
}
use Right::{Both, Loose, Neither, Own};

/// Answers to MATH: two texts, in which mode they are equal either way round, and why.
const MATH: [(&str, &str, Right, &str); 101] = [
    ("5", "5", Both, "the same text"),
    ("5", "6", Neither, "another number"),
    ("a\nb", "ab", Both, "line breaks go"),
    ("a\rb", "ab", Neither, "but only line feeds"),
    (r"10,\!000", "10,000", Both, "negative spaces go"),
    (r"1\\2", r"1\2", Both, "a doubled backslash is one"),
    (r"\\!5", "5", Neither, r"negative spaces go before backslashes are halved: this is \5"),
    (r"\tfrac{1}{3}", r"\frac{1}{3}", Both, "tfrac is frac"),
    (r"\dfrac{1}{3}", r"\frac{1}{3}", Both, "dfrac is frac"),
    (r"\dtfrac{1}{3}", r"\frac{1}{3}", Both, "one replacement makes the next one's text"),
    (r"\tdfrac{1}{3}", r"\frac{1}{3}", Neither, "but in their order only"),
    (r"\left(1,2\right)", "(1,2)", Both, "left and right go"),
    (r"\leftarrow", "arrow", Both, "even where they start another command"),
    (r"90^{\circ}", "90", Both, "degrees go"),
    (r"90^\circ", "90", Both, "without braces too"),
    (r"90\circ", "90", Neither, "but not without a superscript"),
    (r"\$10", "10", Both, "dollar signs go"),
    ("$10", "10", Neither, "but not bare ones"),
    (r"10\text{ cm}", "10", Both, "a unit goes, with the space it starts with"),
    (r"10 \text{ cm}^2", "10", Both, "and what is after it"),
    (r"10\text{ cm}", r"10\text{ miles}", Both, "whatever the unit"),
    (r"10\text{cm}", "10", Neither, "a unit without a space stays"),
    (r"\text{Evelyn}", "Evelyn", Neither, "so does other text"),
    (r"\text{ a}", "", Both, "a unit alone is nothing"),
    (r"1\text{ a}\text{ b}", "1", Neither, "two units are an exception: compared as they are"),
    (r"1\text{ a}\text{ b}", r"1\text{ a}\text{ b}", Both, "and the same text is equal"),
    (r"1\text{ a}\text{ b}", r"1\text{ a}\text{ b} ", Neither, "not even spaces go then"),
    (r"10\%", "10", Both, "per cent goes"),
    (r"10\\%", "10", Both, "also with two backslashes"),
    (r"x\\\\%%", "x", Both, "and once more, where taking one joins another"),
    ("10%", "10", Neither, "but not without a backslash"),
    ("", "", Both, "nothing is nothing"),
    ("", "5", Neither, "but no number"),
    (" ", "", Both, "spaces are nothing"),
    (".5", "0.5", Both, "a zero is put in front"),
    ("x .5", "x0.5", Both, "also after a space"),
    ("{.5}", "{0.5}", Both, "also in a brace"),
    ("-.7", "-0.7", Loose, "but not after a minus"),
    ("x=5", "5", Both, "a short left side goes"),
    ("k = 5", "5", Both, "two characters, the space being one"),
    ("é=5", "5", Both, "characters, not bytes"),
    ("éé = 5", "5", Neither, "three characters are long"),
    ("=5", "5", Both, "no left side is short"),
    ("a=b=5", "b=5", Neither, "two signs are left alone"),
    ("x=.7", "0.7", Loose, "the zero was looked for before the left side went"),
    ("y = 2x + 3", "2x+3", Both, "a line's left side goes too"),
    (r"\sqrt3", r"\sqrt{3}", Both, "a root gets its braces"),
    (r"\sqrt12", r"\sqrt{1}2", Both, "around one character"),
    (r"\sqrt{3}+\sqrt4", r"\sqrt3+\sqrt{4}", Both, "every root"),
    (r"\sqrt 3", r"\sqrt{3}", Neither, "the one character may be a space"),
    (r"\sqrt 3", r"\sqrt{}3", Both, "which then goes"),
    (r"\sqrt[3]{2}", r"\sqrt{[}3]{2}", Both, "or a bracket"),
    (r"\sqrté", r"\sqrt{é}", Both, "or of two bytes"),
    (r"2\sqrt", r"2 \sqrt", Neither, "nothing after a root is an exception"),
    (r"2\sqrt", r"2\sqrt", Both, "and the same text is equal"),
    ("1 + 2", "1+2", Both, "spaces go"),
    ("1\t2", "12", Neither, "but no tabs"),
    (r"\frac12", r"\frac{1}{2}", Both, "a fraction gets its braces"),
    (r"\frac 3 8", r"\frac{3}{8}", Both, "spaces went before"),
    (r"\frac1{72}", r"\frac{1}{72}", Both, "one brace there"),
    (r"\frac{72}1", r"\frac{72}{1}", Neither, "but not the other way round"),
    (r"\frac123", r"\frac{1}{2}3", Both, "one character each"),
    (r"\frac34i", r"\frac{3}{4}i", Both, "what follows stays"),
    (r"\fracéπ", r"\frac{é}{π}", Both, "characters, not bytes"),
    (r"\frac12+\frac3", r"\frac{1}{2}+\frac3", Neither, "one character at the end: all is left as it was"),
    (r"\frac12+\frac3", r"\frac12 + \frac3", Both, "but is no exception: spaces went"),
    (r"\frac", r"\frac ", Neither, "nothing after a fraction is an exception"),
    (r"\frac\frac12", r"\frac{\frac12", Neither, "so is a fraction after a fraction"),
    ("0.5", r"\frac{1}{2}", Both, "0.5 is a half"),
    (".5", "1/2", Both, "and so is .5"),
    ("0.50", r"\frac{1}{2}", Loose, "no other decimal is"),
    ("0.25", r"\frac{1}{4}", Loose, "not a quarter either"),
    ("1/2", r"\frac{1}{2}", Both, "a slash between whole numbers is a fraction"),
    ("-1/2", r"\frac{-1}{2}", Both, "with its sign"),
    ("-1/2", r"-\frac{1}{2}", Loose, "which is not put in front"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}", Loose, "the sign is above or in front"),
    ("1/-2", r"\frac{1}{-2}", Both, "or below"),
    ("01/2", r"\frac{01}{2}", Loose, "but zeros in front are no whole number"),
    ("-0/2", r"\frac{-0}{2}", Loose, "nor is -0"),
    ("+1/2", r"\frac{+1}{2}", Neither, "nor +1, which is no number here at all"),
    ("a/b", r"\frac{a}{b}", Neither, "nor letters"),
    ("1/2/3", r"\frac{1}{2}/3", Neither, "two slashes are left alone"),
    ("x=1/2", r"\frac12", Both, "several steps at once"),
    ("3.0", "3", Loose, "by value"),
    ("1,000", "1000", Loose, "a thousand"),
    ("1{,}000", "1000", Loose, "as TeX has it"),
    ("1,2", "12", Neither, "a pair"),
    ("1,20", "120", Neither, "a pair"),
    ("1, 200", "1200", Neither, "a pair, though without its space it would be a number"),
    ("1,2345", "12345", Neither, "not in groups of three"),
    (r"50\%", "0.50", Loose, "per cent by value; by text it is 50 as well"),
    ("50%", "1/2", Loose, "without a backslash too"),
    (r"\frac{50}{2}\%", r"\frac14", Loose, "of a fraction"),
    (r"\frac{0.5}{1.50}", "1/3", Loose, "a fraction of decimals"),
    (r"\frac{2}{4}", r"0.5\text{ m}", Loose, "the normaliser's steps come first"),
    ("2/4", "-1/2", Neither, "another sign"),
    (r"1\frac{1}{2}", "1.5", Neither, "a mixed number is not read"),
    ("1/0", "2/0", Neither, "no number"),
    ("0.3333", "1/3", Neither, "exact, not near"),
    (
        "340282366920938463463374607431768211456",
        "340282366920938463463374607431768211456.0",
        Neither,
        "too large: as text",
    ),
    ("170141183460469231731687303715884105727.0", "170141183460469231731687303715884105727", Loose, "the largest"),
];

/// Responses to GSM8K: the text, the reference, in which mode it is right, and why.
const GSM8K: [(&str, &str, Right, &str); 46] = [
    ("6 x 7 = 42.\n#### 42", "42", Both, "the format"),
    ("#### 41", "42", Neither, "another number"),
    ("#### -3", "-3", Both, "a minus"),
    ("#### - 3", "-3", Neither, "parted from its number: no minus"),
    ("#### 1,000", "1000", Both, "commas go"),
    ("#### 1000", "1,000", Both, "on either side"),
    ("#### 1,0,00", "1000", Own, "wherever they are"),
    ("#### 42.", "42", Both, "a full stop at the end goes"),
    ("#### 1,234.", "1234", Both, "after the commas"),
    ("#### 42..", "42", Loose, "but only one"),
    ("#### 42.0", "42", Loose, "text is compared, not values"),
    ("#### 042", "42", Loose, "text is compared, not values"),
    ("#### 42\n#### 43", "42", Own, "the first answer against the last number"),
    ("#### 42\n#### 43", "43", Loose, "the first answer against the last number"),
    ("#### 42 of 50", "42", Own, "a number after the answer"),
    ("#### nothing, then #### 42", "42", Both, "a mark without a number is passed by"),
    ("##### 42", "42", Both, "the mark ends in four"),
    ("### 42", "42", Loose, "three are none"),
    ("####42", "42", Loose, "no space"),
    ("####  42", "42", Loose, "two spaces"),
    ("####\n42", "42", Loose, "another space"),
    ("#### $42", "42", Loose, "a dollar sign"),
    ("#### **42**", "42", Loose, "bold type"),
    ("#### 42 apples", "42", Both, "a unit"),
    ("#### 42apples", "42", Both, "without a space"),
    ("####", "42", Neither, "only the mark"),
    ("#### ", "42", Neither, "only the mark"),
    ("#### -", "42", Neither, "only a minus"),
    ("#### ,", "", Neither, "commas are no answer, not even to nothing"),
    ("#### .", "42", Neither, "a point is no number"),
    ("", "42", Neither, "nothing"),
    ("", "", Neither, "nothing, against nothing"),
    ("#### ٤٢", "42", Neither, "other digits"),
    ("#### 42€ – fertig 😀", "42", Both, "what follows does not matter"),
    ("The answer is \u{2212}3.", "-3", Loose, "the minus sign proper"),
    ("It costs $18.00 in all.", "18", Loose, "the same value"),
    ("So it is -$1,234.50.", "-1234.5", Loose, "signs on either side of the dollar"),
    ("So it is $-5", "-5", Loose, "signs on either side of the dollar"),
    (r"\(10-5\)", "5", Loose, "a difference is no sign"),
    ("x=-5", "-5", Loose, "a sign after another"),
    ("They are 1, 2", "2", Loose, "a list"),
    ("They are 1,2", "2", Loose, "a list without spaces"),
    ("He pays $.50", ".5", Loose, "no zero before the point"),
    ("That is the end.18", "18", Loose, "a full stop before"),
    ("99999999999999999999999999999999999999999", "99999999999999999999999999999999999999999", Loose, "large: as text"),
    ("no number", "0", Neither, "no number"),
];

/// Texts, what is in their box where every form of it counts, and why. In the strict mode only `\boxed{}` does.
const BOXES: [(&str, Option<&str>, &str); 23] = [
    (r"so \boxed{5}.", Some("5"), "a box"),
    (r"\boxed{\frac{1}{2}}", Some(r"\frac{1}{2}"), "braces inside"),
    (r"\boxed{\{1, 2\}}", Some(r"\{1, 2\}"), "a set's braces count as braces"),
    (r"\boxed{1} or \boxed{2}", Some("2"), "the last of several"),
    (r"\boxed{\boxed{3}}", Some("3"), "the inner one begins last"),
    (r"\boxed{x\fbox{3}}", Some(r"x\fbox{3}"), "an fbox inside is no matter"),
    (r"\fbox{4}", Some("4"), "an fbox where there is no other"),
    (r"\boxed{3} \fbox{4}", Some("3"), "but not where there is"),
    (r"\boxed{1}}", Some("1"), "a brace too many after it"),
    (r"\boxed{}", Some(""), "nothing is an answer"),
    (r"\boxed{é∞}", Some("é∞"), "of several bytes"),
    (r"it is $\boxed 5$.", Some("5"), "a space: up to the dollar sign"),
    (r"\boxed 5", Some("5"), "or to the end"),
    (r"$\boxed {17}.$", Some("{17}."), "braces too, which the evaluators count as wrong"),
    (r"\boxed 5$ and \boxed{6}", Some("6"), "the last of either form"),
    (r"\boxed{6} and $\boxed 5$", Some("5"), "the last of either form"),
    (r"\boxed{5", None, "not closed"),
    (r"\boxed{1} or \boxed{2", None, "the last is not closed, and no other counts"),
    (r"\boxed{\{}", None, "a set's brace, not closed"),
    (r"\boxed5", None, "neither brace nor space"),
    (r"\boxed", None, "only the command"),
    ("boxed{5}", None, "no command"),
    ("", None, "nothing"),
];

#[track_caller]
fn check(task: Task, response: &str, reference: &str, right: Right, loose: Grading, why: &str) {
    let grades = [STRICT, loose].map(|grading| task.is_right(response, reference, grading));
    let expected = [matches!(right, Both | Own), matches!(right, Both | Loose)];
    assert_eq!(grades, expected, "{response:?} against {reference:?}: {why}");
}

#[test]
fn math_answers_are_equal_where_hendrycks_has_them_so() {
    for (a, b, right, why) in MATH {
        check(Task::Math, &format!("$\\boxed{{{a}}}$"), b, right, RATIONAL, why);
        check(Task::Math, &format!("$\\boxed{{{b}}}$"), a, right, RATIONAL, why);
    }
}

#[test]
fn gsm8k_answers_are_right_where_the_evaluator_has_them_so() {
    for (response, reference, right, why) in GSM8K {
        check(Task::Gsm8k, response, reference, right, FLEXIBLE, why);
    }
}

#[test]
fn gsm8k_is_graded_as_the_strict_filter_of_lm_evaluation_harness_grades_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels-tests/goldens/grade/gsm8k.jsonl");
    let rows = fs::read_to_string(path).unwrap();
    assert!(rows.lines().count() >= 400);
    for row in rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let text = |name: &str| row[name].as_str().unwrap();
        // A reference is a solution.
        let reference = Task::Gsm8k.reference(text("answer")).unwrap();
        let is_right = Task::Gsm8k.is_right(text("completion"), &reference, STRICT);
        assert_eq!(is_right, row["right"], "{row}");
    }
}

#[test]
fn boxes_are_found() {
    for (text, inside, why) in BOXES {
        assert_eq!(Task::Math.answer(text, RATIONAL).as_deref(), inside, "{text:?}: {why}");
        let last = text.rfind("\\boxed").map(|start| &text[start..]);
        let strict = inside.filter(|_| last.is_some_and(|last| last.starts_with("\\boxed{")));
        assert_eq!(Task::Math.answer(text, STRICT).as_deref(), strict, "{text:?}: {why}");
        assert_eq!(Task::Math.reference(text).as_deref(), inside, "{text:?}: {why}");
        if inside.is_none() {
            assert!(
                !Task::Math.is_right(text, "", STRICT) && !Task::Math.is_right(text, "", RATIONAL),
                "{text:?}: {why}"
            );
        }
    }
}

#[test]
fn answers_are_as_the_response_has_them() {
    let answer = |text, grading| Task::Gsm8k.answer(text, grading);
    assert_eq!(answer("#### -1,234. Then 5", STRICT).as_deref(), Some("-1,234."));
    assert_eq!(answer("#### 7\nIt is -\\$1,234.50.", FLEXIBLE).as_deref(), Some("-1,234.50"));
    assert_eq!(answer("version 1.2.3", FLEXIBLE).as_deref(), Some("3"));
    assert_eq!(answer("no number", FLEXIBLE), None);
    assert_eq!(Task::Gsm8k.reference("It is 7.\n#### 1,234").as_deref(), Some("1,234"));
    assert_eq!(Task::Gsm8k.reference("It is 7."), None);
}

#[test]
fn problems_are_asked_with_their_format() {
    let asked = [Task::Gsm8k, Task::Math, Task::None].map(|task| task.user_message("What is 6 x 7?"));
    let gsm8k = "Please reason step by step, and produce a final answer following 4 '#', like '#### 0'.";
    let math = "Please reason step by step, and put your final answer within \\boxed{}.";
    assert_eq!(asked[0], format!("What is 6 x 7?\n{gsm8k}"));
    assert_eq!(asked[1], format!("What is 6 x 7?\n{math}"));
    assert_eq!(asked[2], "What is 6 x 7?");
    assert_eq!(Task::None.reference("42").as_deref(), Some("42"));
    assert_eq!(Task::None.answer("#### 42 \\boxed{42}", FLEXIBLE), None);
    assert!(!Task::None.is_right("42", "42", FLEXIBLE));
}

#[test]
fn a_megabyte_of_anything_is_graded_in_linear_time() {
    let pieces = [
        "{", "}", "\\boxed{", "\\boxed ", "\\frac", "\\sqrt", "\\text{ ", "/", "#", "#### ", ".", ",", "9", "1,", "é",
        "=",
    ];
    let start = Instant::now();
    for piece in pieces {
        let long = piece.repeat((1 << 20) / piece.len());
        for text in [long.clone(), format!("\\boxed{{{long}}}"), format!("\\boxed {long}"), format!("#### {long}")] {
            for (task, grading) in [STRICT, FLEXIBLE, RATIONAL]
                .into_iter()
                .flat_map(|grading| [Task::Gsm8k, Task::Math].map(|task| (task, grading)))
            {
                assert!(!task.is_right(&text, "42", grading), "{piece:?}");
                task.is_right(&text, &text, grading);
            }
        }
    }
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}: not linear in the length", start.elapsed());
}

/// The reference solutions in a file of the shared data sets, `None` where it is not there.
fn solutions(file: &str, field: &str) -> Option<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(file);
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("SKIPPED: {} is not there, so its reference solutions are not graded", path.display());
        return None;
    };
    let row = |line| serde_json::from_str::<Value>(line).unwrap()[field].as_str().unwrap().to_owned();
    Some(text.lines().map(row).collect())
}

#[test]
fn every_reference_solution_is_right_and_its_neighbours_are_as_the_evaluators_say() {
    // The last number: solutions that have the answer of the next row, counted by the evaluators' own code. The looser
    // modes find no more of them.
    let files = [
        (Task::Gsm8k, "gsm8k/train.jsonl", "answer", 7473, 75),
        (Task::Gsm8k, "gsm8k/test.jsonl", "answer", 1319, 15),
        (Task::Math, "math/train.jsonl", "solution", 7500, 54),
    ];
    for (task, file, field, rows, equal_neighbours) in files {
        let Some(solutions) = solutions(file, field) else { continue };
        let references: Vec<String> = solutions.iter().filter_map(|solution| task.reference(solution)).collect();
        assert_eq!((solutions.len(), references.len()), (rows, rows), "{file}");
        for grading in [STRICT, FLEXIBLE, RATIONAL] {
            let right = |solution: &String, reference: &String| task.is_right(solution, reference, grading);
            // Three of MATH's own solutions have `\boxed 5`, which the evaluator takes for no answer.
            let has_space =
                |solution: &str| solution.rsplit("\\boxed").next().is_some_and(|rest| rest.starts_with(' '));
            let strict = grading.math_equal == MathEqual::Hendrycks;
            let wrong = solutions.iter().zip(&references).find(|(solution, reference)| {
                right(solution, reference) == (task == Task::Math && strict && has_space(solution))
            });
            assert_eq!(wrong, None, "{file}, {grading:?}");
            let neighbours = solutions.iter().zip(&references[1..]).filter(|(solution, next)| right(solution, next));
            assert_eq!(neighbours.count(), equal_neighbours, "{file}, {grading:?}");
        }
    }
}
