//! The demo's task: a sum, a column a step from the right, each with its carry, and the answer. What a right response says is
//! known, and so is the first step at which another one goes wrong.

use serde_json::{Value, json};

/// The steps of the right response to `a+b`; `None` where the prompt is no sum.
fn right_steps(prompt: &str) -> Option<Vec<String>> {
    let (a, b) = prompt.trim().split_once('+')?;
    let (a, b): (u64, u64) = (a.parse().ok()?, b.parse().ok()?);
    let columns = a.max(b).max(1).ilog10() + 1;
    let (mut steps, mut carry) = (Vec::new(), 0);
    for column in 0..columns {
        let [x, y] = [a, b].map(|number| number / 10u64.pow(column) % 10);
        steps.push(format!("{x}+{y}+{carry}={}", x + y + carry));
        carry = (x + y + carry) / 10;
    }
    steps.push(format!("#### {}", a + b));
    Some(steps)
}

/// The process rewards of a response of so many tokens, as rows have them: 1/n for each of its n steps before the first wrong
/// one, 0 from there on. The demo's tokens are characters, and the end. `None` where the prompt is no sum.
pub fn step_rewards(prompt: &str, completion: &str, tokens: usize) -> Option<Vec<Value>> {
    let right = right_steps(prompt)?;
    let steps: Vec<&str> = completion.split_inclusive("\n\n").collect();
    let is_right = |(step, right): (&&str, &String)| step.trim_end() == right;
    let before = steps.iter().zip(&right).take_while(|pair| is_right(*pair)).count();
    let mut end = 0;
    let reward = |(index, step): (usize, &&str)| {
        end += step.chars().count();
        let end = if index + 1 == steps.len() { tokens } else { end };
        json!({ "end": end, "reward": if index < before { 1.0 / steps.len() as f64 } else { 0.0 } })
    };
    Some(steps.iter().enumerate().map(reward).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewards(prompt: &str, completion: &str) -> Vec<(u64, bool)> {
        let steps = step_rewards(prompt, completion, completion.len() + 1).unwrap();
        let step = |step: &Value| (step["end"].as_u64().unwrap(), step["reward"].as_f64().unwrap() > 0.0);
        steps.iter().map(step).collect()
    }

    #[test]
    fn steps_are_right_up_to_the_first_wrong_one() {
        let right = "9+4+0=13\n\n3+7+1=11\n\n0+2+1=3\n\n#### 313";
        assert_eq!(rewards("39+274", right), [(10, true), (20, true), (29, true), (38, true)]);
        let forgotten = "9+4+0=13\n\n3+7+0=10\n\n0+2+1=3\n\n#### 303";
        assert_eq!(rewards("39+274", forgotten), [(10, true), (20, false), (29, false), (38, false)]);
        assert_eq!(rewards("7+0", "7+0+0=7\n\n#### 8"), [(9, true), (16, false)]);
        assert!(step_rewards("hello", right, 38).is_none());
    }
}
