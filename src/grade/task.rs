//! The tasks: how each asks a problem, finds the answer in a text, and compares answers.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::grading::{Grading, MathEqual};
use super::gsm8k;
use super::math;

/// A task: how a problem is asked and how a response is graded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Grade-school problems; the answer is a number after "#### "
    Gsm8k,
    /// Competition problems; the answer is in the last \boxed{}
    Math,
    /// Prompts as they are, never graded
    None,
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
            // Some solutions of the data set have `\boxed 5`: they are answers, whatever a response must have.
            Self::Math => math::boxed(solution).map(str::to_owned),
            Self::Gsm8k => self.answer(solution, Grading::default()),
        }
    }

    /// The answer in a response as it stands there, `None` where there is none or its form is wrong. With `Task::None`
    /// there never is one.
    pub fn answer(self, response: &str, grading: Grading) -> Option<String> {
        match self {
            Self::Gsm8k if grading.flexible => gsm8k::last_number(response),
            Self::Gsm8k => gsm8k::marked(response).map(str::to_owned),
            Self::Math => match grading.math_equal {
                MathEqual::Hendrycks => math::strictly_boxed(response),
                MathEqual::Rational => math::boxed(response),
            }
            .map(str::to_owned),
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
