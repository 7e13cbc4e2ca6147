//! Responses to the same prompt, and pairs of a right and a wrong one of them, made from rollouts.

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::examples::Example;

/// These responses, by the examples' numbers, prompt by prompt: each prompt's in their order, prompts in that of their first
/// response.
pub fn by_prompt(examples: &[Example], responses: &[usize]) -> Vec<Vec<usize>> {
    let mut prompts: Vec<Vec<usize>> = Vec::new();
    let mut places = HashMap::new();
    for &response in responses {
        let place = *places.entry(&examples[response].prompt_ids).or_insert(prompts.len());
        if place == prompts.len() {
            prompts.push(Vec::new());
        }
        prompts[place].push(response);
    }
    prompts
}

/// The stream of random numbers that pairs are drawn from; the shuffles of the epochs have those from 0 on.
const STREAM: u64 = u64::MAX;

/// The pairs (chosen, rejected) of these responses, by the examples' numbers: each right response with each wrong one to
/// the same prompt, and where a prompt has more than `max_per_prompt` of them that many, drawn by the seed. Prompts stand
/// in the order of their first response.
pub fn pairs(examples: &[Example], responses: &[usize], max_per_prompt: usize, seed: u64) -> Vec<[usize; 2]> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(STREAM);
    let mut drawn = Vec::new();
    for numbers in by_prompt(examples, responses) {
        let (right, wrong): (Vec<usize>, Vec<usize>) =
            numbers.into_iter().partition(|&number| examples[number].is_right());
        let count = right.len() * wrong.len();
        let mut kept = index::sample(&mut rng, count, max_per_prompt.min(count)).into_vec();
        kept.sort_unstable();
        drawn.extend(kept.into_iter().map(|pair| [right[pair / wrong.len()], wrong[pair % wrong.len()]]));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Responses to prompts, each with its reward.
    fn examples(responses: &[(u32, f64)]) -> Vec<Example> {
        let example =
            |&(prompt, reward): &(u32, f64)| Example { reward: Some(reward), ..Example::of_ids(vec![prompt], vec![1]) };
        responses.iter().map(example).collect()
    }

    #[test]
    fn every_right_response_meets_every_wrong_one_to_its_prompt() {
        let examples = examples(&[(7, 1.0), (8, 0.0), (7, 0.5), (9, 1.0), (7, 0.51), (8, 1.0), (7, 0.0)]);
        let responses: Vec<usize> = (0..examples.len()).collect();
        let expected = [[0, 2], [0, 6], [4, 2], [4, 6], [5, 1]];
        assert_eq!(pairs(&examples, &responses, 12, 42), expected);
        assert_eq!(pairs(&examples, &[0, 1, 6], 12, 42), [[0, 6]]);
    }

    #[test]
    fn of_too_many_the_seed_draws_some() {
        let responses: Vec<(u32, f64)> =
            (0..2).flat_map(|prompt| (0..20).map(move |i| (prompt, f64::from(i % 2)))).collect();
        let examples = examples(&responses);
        let all: Vec<usize> = (0..examples.len()).collect();
        let drawn = pairs(&examples, &all, 12, 42);
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 24);
        for prompt in 0..2 {
            let of_prompt = drawn.iter().filter(|pair| pair.iter().all(|&response| response / 20 == prompt));
            assert_eq!(of_prompt.count(), 12);
        }
        assert!(drawn.iter().all(|&[chosen, rejected]| examples[chosen].is_right() && !examples[rejected].is_right()));
        assert_eq!(drawn, pairs(&examples, &all, 12, 42));
        assert_ne!(drawn, pairs(&examples, &all, 12, 43));
    }
}
