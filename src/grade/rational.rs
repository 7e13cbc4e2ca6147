//! Exact numbers: `0.50`, `1/2`, `\frac12` and `50\%` have one value.

use super::normal::normal;

/// A fraction in lowest terms. What does not fit is no number here: answers are then compared as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rational {
    numerator: i128,
    /// Positive.
    denominator: i128,
}

/// How many bytes at the start are a number without a sign: `12`, `1,234` in groups of three, `1.5`, `.5`; 0 for none.
/// A comma or point that no digits follow is not part of it, and `1,2` are two numbers.
pub fn number_length(text: &[u8]) -> usize {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut length = digits(0);
    if (1..=3).contains(&length) {
        while text.get(length) == Some(&b',') && digits(length + 1) == 3 {
            length += 4;
        }
    }
    if text.get(length) == Some(&b'.') {
        let decimals = digits(length + 1);
        length += if decimals > 0 { 1 + decimals } else { 0 };
    }
    length
}

impl Rational {
    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let (mut divisor, mut rest) = (numerator.unsigned_abs(), denominator.unsigned_abs());
        while rest != 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        let sign = if denominator < 0 { -1 } else { 1 };
        let divisor = i128::try_from(divisor).ok()?.checked_mul(sign)?;
        let (numerator, denominator) = (numerator.checked_div(divisor)?, denominator.checked_div(divisor)?);
        (denominator > 0).then_some(Self { numerator, denominator })
    }

    fn over(self, other: Self) -> Option<Self> {
        let numerator = self.numerator.checked_mul(other.denominator)?;
        Self::new(numerator, self.denominator.checked_mul(other.numerator)?)
    }

    /// A decimal number: `-1,234.50`.
    pub fn of_decimal(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || number_length(digits.as_bytes()) != digits.len() {
            return None;
        }
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let decimals = decimals.trim_end_matches('0');
        let denominator = 10_i128.checked_pow(u32::try_from(decimals.len()).ok()?)?;
        let digits = whole.bytes().chain(decimals.bytes()).filter(u8::is_ascii_digit);
        let numerator = digits
            .map(|digit| i128::from(digit - b'0'))
            .try_fold(0_i128, |sum, digit| sum.checked_mul(10)?.checked_add(digit))?;
        Self::new(if text.starts_with('-') { -numerator } else { numerator }, denominator)
    }

    /// A TeX answer that is a single number once the normaliser has taken its unit, its `x =` and such: a decimal, a
    /// fraction of decimals, or either in per cent.
    pub fn of_tex(answer: &str) -> Option<Self> {
        let answer = answer.trim().replace("{,}", ",");
        // Two numbers, `1, 200`, would be one without the space, which the normaliser takes.
        let is_list = answer.split(',').skip(1).any(|part| part.starts_with(char::is_whitespace));
        let per_cent = answer.strip_suffix('%').map(|number| number.trim_end_matches('\\'));
        let number = per_cent.unwrap_or(&answer);
        // Inside a text the normaliser would take the sign for nothing.
        if is_list || number.contains('%') {
            return None;
        }
        let value = Self::of_normal(&normal(number)?)?;
        if per_cent.is_some() { value.over(Self { numerator: 100, denominator: 1 }) } else { Some(value) }
    }

    fn of_normal(text: &str) -> Option<Self> {
        let fraction = |text: &str| {
            let braced = text.strip_prefix("\\frac{").and_then(|text| text.strip_suffix('}')?.split_once("}{"));
            let (a, b) = braced.or_else(|| text.split_once('/'))?;
            Self::of_decimal(a)?.over(Self::of_decimal(b)?)
        };
        let negative = || {
            let value = fraction(text.strip_prefix('-')?)?;
            Some(Self { numerator: value.numerator.checked_neg()?, ..value })
        };
        Self::of_decimal(text).or_else(|| fraction(text)).or_else(negative)
    }
}
