//! The arithmetic task: sums with written-out steps, a column a paragraph, and what a careless writer makes of them.

use std::collections::HashSet;
use std::fmt::Write;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// A sum of two numbers below 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sum {
    pub a: u32,
    pub b: u32,
}

/// How often a demonstration goes wrong.
#[derive(Clone, Copy)]
pub struct Carelessness {
    /// Of the carries that are not 0, those that are forgotten.
    pub forgotten: f64,
    /// Of the columns, those whose sum is one too high or too low.
    pub slips: f64,
}

impl Sum {
    /// Sums that were not drawn before.
    pub fn draw(count: usize, seen: &mut HashSet<Self>, rng: &mut ChaCha8Rng) -> Vec<Self> {
        let fresh = std::iter::repeat_with(|| Self { a: rng.random_range(0..1000), b: rng.random_range(0..1000) });
        fresh.filter(|sum| seen.insert(*sum)).take(count).collect()
    }

    pub fn answer(self) -> u32 {
        self.a + self.b
    }

    /// A row of problems.
    pub fn problem(self) -> Value {
        json!({ "prompt": self.prompt(), "answer": self.answer().to_string() })
    }

    /// A row with the canonical solution.
    pub fn canonical(self) -> Value {
        json!({ "prompt": self.prompt(), "completion": self.solution(|_| 0, |_| false) })
    }

    /// A row with a solution that may be wrong.
    pub fn careless(self, Carelessness { forgotten, slips }: Carelessness, rng: &mut ChaCha8Rng) -> Value {
        let mut draws = (0..3).map(|_| {
            let slip = if rng.random_bool(slips) { if rng.random_bool(0.5) { 1 } else { -1 } } else { 0 };
            (slip, rng.random_bool(forgotten))
        });
        let draws: Vec<(i32, bool)> = draws.by_ref().collect();
        json!({ "prompt": self.prompt(), "completion": self.solution(|place| draws[place].0, |place| draws[place].1) })
    }

    fn prompt(self) -> Value {
        json!([{ "role": "user", "content": format!("{}+{}", self.a, self.b) }])
    }

    /// Column by column from the right. `slip` is added to a column's sum, and a carry behind a column may be `forgotten`.
    fn solution(self, slip: impl Fn(usize) -> i32, forgotten: impl Fn(usize) -> bool) -> String {
        let (mut text, mut answer, mut carry) = (String::new(), 0, 0);
        for place in 0..self.columns() {
            let (x, y) = (digit(self.a, place), digit(self.b, place));
            let sum = (x + y + carry).saturating_add_signed(slip(place));
            let _ = write!(text, "{x}+{y}+{carry}={sum}\n\n");
            answer += sum % 10 * 10u32.pow(place as u32);
            carry = if forgotten(place) { 0 } else { sum / 10 };
        }
        answer += carry * 10u32.pow(self.columns() as u32);
        text + &format!("#### {answer}")
    }

    fn columns(self) -> usize {
        self.a.max(self.b).to_string().len()
    }

    /// Of each segment of a response, whether it and all before it are right.
    pub fn right_segments<'a>(self, segments: impl Iterator<Item = &'a str>) -> Vec<bool> {
        let solution = self.solution(|_| 0, |_| false);
        let mut expected = solution.split("\n\n");
        let mut right = true;
        segments
            .map(|segment| {
                right &= expected.next() == Some(segment.trim());
                right
            })
            .collect()
    }
}

fn digit(number: u32, place: usize) -> u32 {
    number / 10u32.pow(place as u32) % 10
}
