//! GSM8K: the number after `#### `, or the last one.

use super::rational::{Rational, number_length};

/// The first run of digits, points and commas after `#### ` and perhaps a minus, as the data set's evaluator takes it:
/// one space exactly, and a full stop at the end belongs to the run.
pub fn marked(text: &str) -> Option<&str> {
    text.match_indices("#### ").find_map(|(start, mark)| {
        let rest = &text[start + mark.len()..];
        let digits = rest.strip_prefix('-').unwrap_or(rest);
        let length = digits.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'.' | b',')).count();
        (length > 0).then(|| &rest[..rest.len() - digits.len() + length])
    })
}

/// The last number of a text, without a dollar sign.
pub fn last_number(text: &str) -> Option<String> {
    let mut last = None;
    let mut at = 0;
    while at < text.len() {
        let mut length = number_length(&text.as_bytes()[at..]);
        // In `the end.18` and `1.2.3` the point ends a sentence or parts a number; in `$.50` it is decimal.
        if text.as_bytes()[at] == b'.' && at > 0 && text.as_bytes()[at - 1].is_ascii_alphanumeric() {
            length = 0;
        }
        if length > 0 {
            last = Some((at, length));
        }
        at += length.max(1);
    }
    let (start, length) = last?;
    let sign = if is_negative(&text[..start]) { "-" } else { "" };
    Some(format!("{sign}{}", &text[start..start + length]))
}

/// Whether a number after this text is negative: `-5`, `-$5`, `$-5`, but not the second number of `10-5`.
fn is_negative(before: &str) -> bool {
    let before = before.strip_suffix('$').map_or(before, |before| before.strip_suffix('\\').unwrap_or(before));
    // The second is the minus sign proper, U+2212.
    let Some(left) = before.strip_suffix(['-', '\u{2212}']) else { return false };
    !left.ends_with(|c: char| c.is_alphanumeric() || ")]}%-".contains(c))
}

/// The same text but for commas and a full stop at the end, as the newest evaluators compare them, or, where `flexible`, the
/// same value.
pub fn equal(answer: &str, reference: &str, flexible: bool) -> bool {
    let same_value = || {
        let values = Rational::of_decimal(answer).zip(Rational::of_decimal(reference.trim()));
        values.is_some_and(|(answer, reference)| answer == reference)
    };
    let text = |number: &str| {
        let number = number.trim().replace(',', "");
        number.strip_suffix('.').map(str::to_owned).unwrap_or(number)
    };
    // `#### ,` is an answer to the evaluator, but to no problem.
    let same_text = !text(answer).is_empty() && text(answer) == text(reference);
    same_text || flexible && same_value()
}
