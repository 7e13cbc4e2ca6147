//! Tasks: how a word problem is asked, and whether a response has its answer.
//!
//! What the data sets' own evaluators count as right is right here, quirks included, so that rewards and scores can be
//! held against published ones. A response that breaks the format is wrong, never an error.

mod gsm8k;
mod math;
mod normal;
mod rational;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A task: how a problem is asked and how a response is graded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Grade-school problems; the answer is a number behind "#### "
    Gsm8k,
    /// Competition problems; the answer is in the last \boxed{}
    Math,
    /// Prompts as they are, never graded
    None,
}

/// How strictly answers are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grading {
    /// GSM8K: the answer is the last number of the whole response, even where there is one behind `#### `, and numbers
    /// of the same value are equal. MATH knows no difference.
    pub flexible: bool,
    /// When answers to MATH are equal. GSM8K knows no difference.
    pub math_equal: MathEqual,
}

/// When two answers to MATH are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MathEqual {
    /// Where the normaliser of the data set's authors makes the same text of them
    #[default]
    Hendrycks,
    /// There, and where both are numbers of the same value
    Rational,
}

impl Task {
    /// The user's message: the problem, then the format guide.
    pub fn user_message(self, problem: &str) -> String {
        let guide = match self {
            Self::Gsm8k => "\nPlease reason step by step, and produce a final answer following 4 '#', like '#### 0'.",
            Self::Math => "\nPlease reason step by step, and put your final answer within \\boxed{}.",
            Self::None => "",
        };
        format!("{problem}{guide}")
    }

    /// The answer in a reference solution, `None` where there is none. With `Task::None` it is the whole text.
    pub fn reference(self, solution: &str) -> Option<String> {
        match self {
            Self::None => Some(solution.to_owned()),
            _ => self.answer(solution, Grading::default()),
        }
    }

    /// The answer in a response as it stands there, `None` where there is none or its form is wrong. With `Task::None`
    /// there never is one.
    pub fn answer(self, response: &str, grading: Grading) -> Option<String> {
        match self {
            Self::Gsm8k if grading.flexible => gsm8k::last_number(response),
            Self::Gsm8k => gsm8k::marked(response).map(str::to_owned),
            Self::Math => math::boxed(response).map(str::to_owned),
            Self::None => None,
        }
    }

    /// Whether a response has the reference answer. With `Task::None` it never has.
    pub fn is_right(self, response: &str, reference: &str, grading: Grading) -> bool {
        self.answer(response, grading).is_some_and(|answer| match self {
            Self::Gsm8k => gsm8k::equal(&answer, reference, grading.flexible),
            Self::Math => math::equal(&answer, reference, grading.math_equal),
            Self::None => false,
        })
    }
}
