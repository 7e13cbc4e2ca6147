use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::SampleToken;

/// How a token is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_prob: f32,
}

/// The paper's settings.
pub const PAPER: Draw = Draw { temperature: 1.0, top_k: 16, top_p: 0.9, min_prob: 0.01 };

/// A draw from each of `rows` rows of `cols` logits between `-range` and `range`; greedy at temperature 0.
fn case(rows: usize, cols: usize, range: f64, draw: Draw) -> Case {
    let Draw { temperature, top_k, top_p, min_prob } = draw;
    let shape = format!("{rows} x {cols}, +-{range}, T {temperature}, k {top_k}, p {top_p}, min {min_prob}");
    let stride = cols.next_multiple_of(4);
    let mut case = Case::new(SampleToken::SIGNATURE, shape, Work::Bytes(4.0 * (rows * cols) as f64));
    let uniforms = case.uniform(rows).into_iter().map(|u| (0.5 + 0.5 * u).min(0.999_999)).collect();
    case.scaled("logits", &[rows, stride], range)
        .floats("uniforms", &[rows], crate::device::DType::Real, uniforms)
        .u32s("tokens", vec![0; rows])
        .in_place()
        .output("logp", &[rows])
        .run(move |device, tensors| {
            let [logits, uniforms, tokens, logp] = tensors else { unreachable!() };
            device.run(SampleToken {
                logits,
                uniforms,
                tokens,
                logp,
                rows: rows as u32,
                cols: cols as u32,
                stride: stride as u32,
                inverse_temperature: if temperature > 0.0 { 1.0 / temperature } else { 0.0 },
                top_k,
                top_p,
                min_prob,
            });
        })
}

const WHOLE: Draw = Draw { temperature: 1.0, top_k: 0, top_p: 1.0, min_prob: 0.0 };

/// Greedy, the whole distribution, each test alone, all together.
pub const DRAWS: [Draw; 8] = [
    Draw { temperature: 0.0, ..WHOLE },
    WHOLE,
    Draw { temperature: 0.6, ..WHOLE },
    Draw { top_k: 16, ..WHOLE },
    Draw { top_k: 1, ..WHOLE },
    Draw { top_p: 0.9, ..WHOLE },
    Draw { min_prob: 0.03, ..WHOLE },
    Draw { temperature: 1.5, ..PAPER },
];

/// What is tested.
pub fn tests() -> Vec<Case> {
    // The tokens are equal, and so the log-probs differ by rounding alone.
    let sizes = [(1, 1, 1.0), (37, 41, 3.0), (5, 123, 1.0), (130, 37, 8.0)];
    let ordinary = sizes.into_iter().flat_map(|(rows, cols, range)| DRAWS.map(|draw| case(rows, cols, range, draw)));
    // Of tens of thousands of tokens that all pass, rounding in f32 may choose the neighbour: only draws from few.
    let from_few = DRAWS.into_iter().filter(|draw| draw.temperature == 0.0 || draw.top_k > 0);
    let wide = from_few.flat_map(|draw| [50_000, 262_144].map(|cols| case(2, cols, 8.0, draw)));
    // More than are gathered pass, or more than there are blocks to bound them by: the whole row is ranked.
    let many = [
        case(3, 5000, 1.0, Draw { top_p: 0.4, ..WHOLE }),
        case(3, 1500, 3.0, Draw { top_k: 300, ..WHOLE }),
        case(3, 5000, 3.0, Draw { top_k: 300, ..PAPER }),
    ];
    // Where the logits are extreme, a log-prob near 0 is log(1 + e), of which f32 keeps 2^-24 absolutely.
    let steep = DRAWS.map(|draw| case(16, 100, 1000.0, draw).within(1e-4));
    ordinary.chain(wide).chain(many).chain(steep).collect()
}

/// The rows of the table.
pub fn bench() -> Vec<Case> {
    let greedy = Draw { temperature: 0.0, ..PAPER };
    vec![case(32, 49152, 5.0, PAPER), case(32, 49152, 5.0, greedy)]
}

/// The large rows of the table.
pub fn large() -> impl Iterator<Item = Case> {
    let greedy = Draw { temperature: 0.0, ..PAPER };
    [PAPER, greedy].into_iter().map(|draw| case(32, 151_936, 5.0, draw))
}
