//! The arithmetic task: sums with written-out steps, a column a paragraph, and those who write them.

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

/// One who writes solutions.
pub struct Writer {
    /// The orders in which a column's digits (0 and 1) and what is carried into it (2) may stand; each as likely.
    orders: &'static [[usize; 3]],
    /// A rule of the writer's own: a carry out of a column of [`LARGE`] or more is forgotten this often, no other ever.
    forgotten: f64,
    /// Of the columns, those whose sum is one too high or too low: noise.
    slips: f64,
}

/// The columns whose carry a careless writer forgets.
pub const LARGE: u32 = 13;

/// Whom the base learns from.
pub const CARELESS: Writer = Writer { orders: &[[0, 1, 2], [1, 0, 2]], forgotten: 0.8, slips: 0.04 };
/// Who wrote the data set's solutions: all right, and in an order that the base never saw.
pub const TEXTBOOK: Writer = Writer { orders: &[[2, 0, 1]], forgotten: 0.0, slips: 0.0 };

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

    /// A row with a solution, column by column from the right.
    pub fn demonstration(self, writer: &Writer, rng: &mut ChaCha8Rng) -> Value {
        let (mut text, mut answer, mut carry) = (String::new(), 0, 0);
        for place in 0..self.columns() {
            let summands = [digit(self.a, place), digit(self.b, place), carry];
            let [first, second, third] = writer.orders[rng.random_range(0..writer.orders.len())].map(|at| summands[at]);
            let slip = match rng.random_bool(writer.slips) {
                true if rng.random_bool(0.5) => 1,
                true => -1,
                false => 0,
            };
            let sum = (first + second + third).saturating_add_signed(slip);
            let _ = write!(text, "{first}+{second}+{third}={sum}\n\n");
            answer += sum % 10 * 10u32.pow(place as u32);
            let is_forgotten = sum >= LARGE && rng.random_bool(writer.forgotten);
            carry = if is_forgotten { 0 } else { sum / 10 };
        }
        answer += carry * 10u32.pow(self.columns() as u32);
        json!({ "prompt": self.prompt(), "completion": format!("{text}#### {answer}") })
    }

    fn prompt(self) -> Value {
        json!([{ "role": "user", "content": format!("{}+{}", self.a, self.b) }])
    }

    fn columns(self) -> usize {
        self.a.max(self.b).to_string().len()
    }

    /// Of each segment of a response, whether it and all before it are right, in whatever order the summands stand.
    pub fn right_segments<'a>(self, segments: impl Iterator<Item = &'a str>) -> Vec<bool> {
        let (mut right, mut carry) = (true, 0);
        let mut judge = |(place, segment): (usize, &str)| {
            if place < self.columns() {
                let mut summands = [digit(self.a, place), digit(self.b, place), carry];
                let sum: u32 = summands.iter().sum();
                summands.sort_unstable();
                right &= column(segment) == Some((summands, sum));
                carry = sum / 10;
            } else {
                right &= place == self.columns() && segment.trim() == format!("#### {}", self.answer());
            }
            right
        };
        segments.enumerate().map(&mut judge).collect()
    }
}

/// The summands in order of size, and the sum, of a column as it is written.
fn column(segment: &str) -> Option<([u32; 3], u32)> {
    let (summands, sum) = segment.trim().split_once('=')?;
    let summands: Vec<u32> = summands.split('+').map(str::parse).collect::<Result<_, _>>().ok()?;
    let mut summands: [u32; 3] = summands.try_into().ok()?;
    summands.sort_unstable();
    Some((summands, sum.parse().ok()?))
}

fn digit(number: u32, place: usize) -> u32 {
    number / 10u32.pow(place as u32) % 10
}
