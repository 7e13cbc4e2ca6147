//! A response with V along it.

/// A response with the value network's V of the state before each token.
pub struct ValuedResponse {
    /// The row's line in its file.
    pub line: usize,
    pub prompt: String,
    pub tokens: Vec<ValuedToken>,
    pub segments: Vec<ValuedSegment>,
    pub reward: Option<f64>,
    /// Whether the answer was right, where it was judged.
    pub right: Option<bool>,
    /// The first segment that is wrong, by its number from 0, where process rewards say which is.
    pub first_wrong: Option<usize>,
}

/// V around a response's first wrong segment.
pub(super) struct Slip<'a> {
    pub response: &'a ValuedResponse,
    /// At the segment's start.
    pub before: f64,
    /// At its end.
    pub after: f64,
}

/// Of the responses that have one.
pub(super) fn slips(responses: &[ValuedResponse]) -> Vec<Slip<'_>> {
    responses.iter().filter_map(Slip::of).collect()
}

impl<'a> Slip<'a> {
    fn of(response: &'a ValuedResponse) -> Option<Self> {
        let segment = response.segments.get(response.first_wrong?)?;
        Some(Self { response, before: response.tokens.get(segment.first)?.value, after: segment.value })
    }
}

/// A token of a response.
pub struct ValuedToken {
    /// As it is; may be empty, or a part of a character.
    pub text: String,
    /// V of the state before the token.
    pub value: f64,
    /// V of the state after it less `value`; for the last token, the reward less `value`.
    pub change: f64,
    pub advantage: Option<f64>,
    /// The process reward at this token.
    pub step_reward: f64,
}

/// A part of a response, such as a line.
pub struct ValuedSegment {
    pub text: String,
    /// Its first token.
    pub first: usize,
    /// The token after its last.
    pub end: usize,
    /// V at its end.
    pub value: f64,
    pub process_reward: Option<f64>,
}

/// How far V and process rewards go together.
pub struct Correlation {
    pub pearson: f64,
    pub spearman: f64,
    /// The number of segments.
    pub count: usize,
}
