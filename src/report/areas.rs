//! How well V tells right from wrong: areas under ROC curves.

use super::response::ValuedResponse;

/// The area under a ROC curve: the probability that V of a right one is above V of a wrong one, ties counted half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RocArea {
    pub area: f64,
    /// How many right ones there are.
    pub right: usize,
    /// How many wrong ones there are.
    pub wrong: usize,
}

/// Of pairs of V and whether the outcome is right; nothing where all are right or all wrong, or V is not a number.
pub fn roc_area(judged: &[(f64, bool)]) -> Option<RocArea> {
    let values = |right: bool| judged.iter().filter(move |(_, is)| *is == right).map(|(value, _)| *value);
    let mut wrong: Vec<f64> = values(false).collect();
    let right = values(true).count();
    if right == 0 || wrong.is_empty() || judged.iter().any(|(value, _)| value.is_nan()) {
        return None;
    }
    wrong.sort_by(f64::total_cmp);
    let below = |value: f64| {
        let less = wrong.partition_point(|other| *other < value);
        let up_to = wrong.partition_point(|other| *other <= value);
        0.5 * (less + up_to) as f64
    };
    let area = values(true).map(below).sum::<f64>() / (right as f64 * wrong.len() as f64);
    Some(RocArea { area, right, wrong: wrong.len() })
}

/// Of V of the state before each response's last token, the last that the network sees, against the outcome.
pub fn outcome_area(responses: &[ValuedResponse]) -> Option<RocArea> {
    let judged = responses.iter().filter_map(|response| Some((response.tokens.last()?.value, response.right?)));
    roc_area(&judged.collect::<Vec<_>>())
}

/// Of V at the end of each segment that has a process reward against whether that is above 0.
pub fn segment_area(responses: &[ValuedResponse]) -> Option<RocArea> {
    let segments = responses.iter().flat_map(|response| &response.segments);
    let judged = segments.filter_map(|segment| Some((segment.value, segment.process_reward? > 0.0)));
    roc_area(&judged.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        // Of 6 pairs 4 are in order and one is a tie.
        let judged = [(0.9, true), (0.4, true), (0.4, false), (0.1, false), (0.7, false)];
        let found = roc_area(&judged).unwrap();
        assert!((found.area - 4.5 / 6.0).abs() < 1e-15, "{found:?}");
        assert_eq!((found.right, found.wrong), (2, 3));
        assert_eq!(roc_area(&[(0.5, true), (0.2, true)]), None);
        assert_eq!(roc_area(&[(0.5, true), (f64::NAN, false)]), None);
    }
}
