//! How strictly answers are compared.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How strictly answers are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grading {
    /// GSM8K: the answer is the last number of the whole response, even where there is one after `#### `, and numbers
    /// of the same value are equal. MATH knows no difference.
    pub flexible: bool,
    /// When answers to MATH are equal. GSM8K knows no difference.
    pub math_equal: MathEqual,
}

/// When two answers to MATH are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MathEqual {
    /// Where the normaliser of the data set's authors makes the same text of them, and their code finds the box
    #[default]
    Hendrycks,
    /// There, and where both are numbers of the same value; `\boxed 5` and `\fbox{}` are boxes too
    Rational,
}
