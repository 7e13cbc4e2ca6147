//! Mismatched pairs, by which KTO measures how far the policy is from the reference: the prompt of a row of a step with
//! the completion of the next row of the step, in file order and from the last one on to the first, that has another
//! prompt.

use std::collections::HashMap;
use std::hash::Hash;

use crate::data::Example;

/// The mismatched pairs of all steps of a run, each known once.
pub struct Mismatched {
    /// The prompt of each response; equal prompts have equal numbers.
    prompts: Vec<usize>,
    /// The same of its completion.
    completions: Vec<usize>,
    /// The example that a prompt and a completion make.
    numbers: HashMap<[usize; 2], usize>,
}

impl Mismatched {
    /// The pairs of steps of these examples, and the examples that they make: their numbers follow those of `examples`. A step is given
    /// by its examples' numbers, ascending. What is longer than `longest` tokens loses its end.
    pub fn new(examples: &[Example], steps: impl Iterator<Item = Vec<usize>>, longest: usize) -> (Self, Vec<Example>) {
        let mut mismatched = Self {
            prompts: numbered(examples.iter().map(|example| &example.prompt_ids)),
            completions: numbered(examples.iter().map(|example| &example.completion_ids)),
            numbers: HashMap::new(),
        };
        let mut made = Vec::new();
        for step in steps {
            for Pair { prompt, completion } in mismatched.pairs(&step) {
                let key = [mismatched.prompts[prompt], mismatched.completions[completion]];
                mismatched.numbers.entry(key).or_insert_with(|| {
                    let (prompt, completion) = (&examples[prompt], &examples[completion]);
                    let pair = Example::of_ids(prompt.prompt_ids.clone(), completion.completion_ids.clone());
                    let pair = Example { line: prompt.line, truncated: completion.truncated, ..pair };
                    let room = longest.saturating_sub(pair.prompt_ids.len()).max(1);
                    made.push(if pair.completion_ids.len() > room { pair.cut(room) } else { pair });
                    examples.len() + made.len() - 1
                });
            }
        }
        (mismatched, made)
    }

    /// The examples of a step's mismatched pairs, one for each of the step's examples; none where they all have the same
    /// prompt.
    pub fn of(&self, step: &[usize]) -> Vec<usize> {
        let number = |pair: Pair| self.numbers[&[self.prompts[pair.prompt], self.completions[pair.completion]]];
        self.pairs(step).into_iter().map(number).collect()
    }

    fn pairs(&self, step: &[usize]) -> Vec<Pair> {
        let next = |place: usize| {
            let others = step[place + 1..].iter().chain(&step[..place]);
            others.copied().find(|&other| self.prompts[other] != self.prompts[step[place]])
        };
        step.iter()
            .enumerate()
            .filter_map(|(place, &row)| Some(Pair { prompt: row, completion: next(place)? }))
            .collect()
    }
}

/// Whose prompt meets whose completion.
#[derive(Clone, Copy)]
struct Pair {
    prompt: usize,
    completion: usize,
}

/// A number for each value: equal ones where they are equal.
fn numbered<T: Eq + Hash>(values: impl Iterator<Item = T>) -> Vec<usize> {
    let mut numbers = HashMap::new();
    values
        .map(|value| {
            let count = numbers.len();
            *numbers.entry(value).or_insert(count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (prompt, completion) of each example: one token of either.
    fn examples(tokens: &[(u32, u32)]) -> Vec<Example> {
        tokens.iter().map(|&(prompt, completion)| Example::of_ids(vec![prompt], vec![completion])).collect()
    }

    #[test]
    fn a_prompt_meets_the_next_completion_of_another_prompt() {
        let examples = examples(&[(1, 10), (1, 11), (2, 12), (1, 13), (3, 14)]);
        let (mismatched, made) = Mismatched::new(&examples, [vec![0, 1, 2, 3, 4]].into_iter(), 100);
        let pairs: Vec<_> = mismatched
            .of(&[0, 1, 2, 3, 4])
            .into_iter()
            .map(|number| (made[number - 5].prompt_ids[0], made[number - 5].completion_ids[0]))
            .collect();
        // The last row goes on with the first one; the first two make the same pair, which is known once.
        assert_eq!(pairs, [(1, 12), (1, 12), (2, 13), (1, 14), (3, 10)]);
        assert_eq!(made.len(), 4);
    }

    #[test]
    fn rows_of_one_prompt_make_none() {
        let examples = examples(&[(1, 10), (1, 11), (2, 12)]);
        let (mismatched, made) = Mismatched::new(&examples, [vec![0, 1], vec![2]].into_iter(), 100);
        assert!(made.is_empty() && mismatched.of(&[0, 1]).is_empty() && mismatched.of(&[2]).is_empty());
    }

    #[test]
    fn what_becomes_too_long_is_cut() {
        let examples = [Example::of_ids(vec![1; 6], vec![2]), Example::of_ids(vec![3], vec![4; 6])];
        let (mismatched, made) = Mismatched::new(&examples, [vec![0, 1]].into_iter(), 8);
        assert_eq!(mismatched.of(&[0, 1]), [2, 3]);
        assert_eq!((made[0].prompt_ids.len(), made[0].completion_ids.len(), made[0].truncated), (6, 2, true));
        assert_eq!((made[1].prompt_ids.len(), made[1].completion_ids.len(), made[1].truncated), (1, 1, false));
    }
}
