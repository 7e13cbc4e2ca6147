//! The order of the examples and their cut into micro-batches.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The order of `count` examples in an epoch: a shuffle that depends on the seed and the epoch alone.
pub fn epoch_order(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut rng);
    order
}

/// Packs sequences of these lengths into micro-batches of at most `budget` tokens; one that is longer stands alone.
/// Returns the numbers of the sequences in each, ascending. First fit, longest first: few micro-batches, and the same
/// ones whatever the order.
pub fn pack(lengths: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&sequence| std::cmp::Reverse(lengths[sequence]));
    let mut packed: Vec<Vec<usize>> = Vec::new();
    let mut tokens: Vec<usize> = Vec::new();
    for sequence in order {
        let length = lengths[sequence];
        match tokens.iter().position(|tokens| tokens + length <= budget) {
            Some(fitting) => {
                tokens[fitting] += length;
                packed[fitting].push(sequence);
            }
            None => {
                tokens.push(length);
                packed.push(vec![sequence]);
            }
        }
    }
    packed.iter_mut().for_each(|members| members.sort_unstable());
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_is_in_one_micro_batch_within_the_budget() {
        let lengths = [5, 3, 9, 1, 4, 4, 20];
        let packed = pack(&lengths, 10);
        let mut all: Vec<usize> = packed.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        for members in &packed {
            let tokens: usize = members.iter().map(|&sequence| lengths[sequence]).sum();
            assert!(tokens <= 10 || members.len() == 1, "{members:?}");
        }
        assert_eq!(packed.len(), 4);
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_alone() {
        assert_eq!(epoch_order(100, 7, 0), epoch_order(100, 7, 0));
        assert_ne!(epoch_order(100, 7, 0), epoch_order(100, 7, 1));
        assert_ne!(epoch_order(100, 7, 0), epoch_order(100, 8, 0));
        let mut sorted = epoch_order(100, 7, 3);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }
}
