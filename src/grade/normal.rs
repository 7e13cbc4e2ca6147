//! The normal form of a TeX answer by the normaliser of MATH's authors (Hendrycks et al., 2021).
//!
//! Its steps depend on their order, and its oddities are kept: `\sqrt 3` is not `\sqrt{3}`, but `10\%` is `10`.

/// What is replaced before anything is looked at, in this order.
const CLEAN: [(&str, &str); 10] = [
    ("\n", ""),
    ("\\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    ("\\left", ""), // which takes the start of `\leftarrow` too
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("\\$", ""),
];

/// What is replaced once the unit is gone; per cent twice, as the second pass finds what the first joined.
const NUMBERS: [(&str, &str); 4] = [("\\%", ""), ("\\%", ""), (" .", " 0."), ("{.", "{0.")];

/// Whether the normal forms are the same text. Where either answer has none, the answers themselves must be the same.
pub fn is_equivalent(a: &str, b: &str) -> bool {
    match (normal(a), normal(b)) {
        (Some(normal_a), Some(normal_b)) => normal_a == normal_b,
        _ => a == b,
    }
}

/// The normal form, `None` where the normaliser fails.
pub fn normal(answer: &str) -> Option<String> {
    let text = replace(answer.to_owned(), &CLEAN);
    let text = replace(without_unit(text)?, &NUMBERS);
    let text = if text.starts_with('.') { format!("0{text}") } else { text };
    let text = with_roots(right_of_equals(&text))?.replace(' ', "");
    let text = with_fractions(text)?;
    Some(if text == "0.5" { "\\frac{1}{2}".to_owned() } else { of_slash(text) })
}

fn replace(text: String, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text, |text, (from, to)| text.replace(from, to))
}

/// Without a unit, which is told by the space that its `\text` starts with. Two are one too many.
fn without_unit(mut text: String) -> Option<String> {
    const UNIT: &str = "\\text{ ";
    match text.matches(UNIT).count() {
        0 => {}
        1 => text.truncate(text.find(UNIT)?),
        _ => return None,
    }
    Some(text)
}

/// What `k = 5` says of `k`: the right side of the only `=` where at most two characters are on its left.
fn right_of_equals(text: &str) -> &str {
    match text.split_once('=') {
        Some((left, right)) if !right.contains('=') && left.chars().count() <= 2 => right,
        _ => text,
    }
}

/// `\sqrt3` as `\sqrt{3}`, whatever the first character is, a space included.
fn with_roots(text: &str) -> Option<String> {
    let mut parts = text.split("\\sqrt");
    let mut output = parts.next()?.to_owned();
    for part in parts {
        let first = part.chars().next()?;
        output.push_str("\\sqrt");
        output.push_str(&if first == '{' { part.to_owned() } else { braced_first(part, first) });
    }
    Some(output)
}

/// `\frac12` and `\frac1{2}` as `\frac{1}{2}`. `\frac{1}2` stays, and nothing changes where a fraction ends after one
/// character.
fn with_fractions(text: String) -> Option<String> {
    let mut parts = text.split("\\frac");
    let mut output = parts.next()?.to_owned();
    for part in parts {
        output.push_str("\\frac");
        let first = part.chars().next()?;
        if first == '{' {
            output.push_str(part);
            continue;
        }
        let rest = &part[first.len_utf8()..];
        let Some(second) = rest.chars().next() else { return Some(text) };
        output.extend(['{', first, '}']);
        output.push_str(&if second == '{' { rest.to_owned() } else { braced_first(rest, second) });
    }
    Some(output)
}

/// A text with braces around its first character.
fn braced_first(text: &str, first: char) -> String {
    format!("{{{first}}}{}", &text[first.len_utf8()..])
}

/// `1/2` as `\frac{1}{2}` where both are whole numbers as one writes them: no plus, no zeros in front.
fn of_slash(text: String) -> String {
    match text.split_once('/') {
        Some((a, b)) if is_plain_integer(a) && is_plain_integer(b) => format!("\\frac{{{a}}}{{{b}}}"),
        _ => text,
    }
}

fn is_plain_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let zero_in_front = digits.starts_with('0') && text != "0";
    !digits.is_empty() && !zero_in_front && digits.bytes().all(|byte| byte.is_ascii_digit())
}
