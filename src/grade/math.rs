//! MATH: what the last box holds, and when two answers are equal.

use super::grading::MathEqual;
use super::normal::is_equivalent;
use super::rational::Rational;

/// What is in the last `\boxed{}`, as the data set's evaluator has it: the last box alone counts, and where that is `\boxed 5`
/// or not closed, or all that is boxed stands in an `\fbox{}`, there is no answer.
pub fn strictly_boxed(text: &str) -> Option<&str> {
    const BOX: &str = "\\boxed";
    braced(&text[text.rfind(BOX)? + BOX.len()..])
}

/// What is in the last `\boxed{}`, or, where no box is so called, in the last `\fbox{}`. `\boxed 5` holds what follows
/// up to the next dollar sign, as evaluators built on the data set's own have it. Only the last box counts: where it is
/// not closed, there is no answer.
pub fn boxed(text: &str) -> Option<&str> {
    let after = |command: &str| text.rfind(command).map(|start| &text[start + command.len()..]);
    match after("\\boxed") {
        Some(rest) => rest.strip_prefix(' ').map_or_else(|| braced(rest), |rest| rest.split('$').next()),
        None => braced(after("\\fbox")?),
    }
}

/// What is between the brace that the text starts with and the one that closes it.
fn braced(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('{')?;
    let mut open = 1_usize;
    let end = inside.bytes().position(|byte| {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        open == 0
    })?;
    Some(&inside[..end])
}

/// Whether two answers are equal.
pub fn equal(answer: &str, reference: &str, how: MathEqual) -> bool {
    let same_value = || {
        let values = Rational::of_tex(answer).zip(Rational::of_tex(reference));
        values.is_some_and(|(answer, reference)| answer == reference)
    };
    is_equivalent(answer, reference) || how == MathEqual::Rational && same_value()
}
