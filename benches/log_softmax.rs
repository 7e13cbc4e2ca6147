use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::LogSoftmax;

/// Log-softmax of `rows` x `vocabulary` logits between `-range` and `range` plus `shift`, in chunks of `chunk` columns.
/// The first and the last id are among the targets.
fn case(rows: usize, vocabulary: usize, chunk: usize, range: f64, shift: f64) -> Case {
    let shape = format!("{rows} x {vocabulary} by {chunk}, +-{range} + {shift}");
    let mut case = Case::new(LogSoftmax::SIGNATURE, shape, Work::Bytes(4.0 * (rows * vocabulary) as f64));
    let mut targets = case.indices(rows, vocabulary);
    targets[0] = 0;
    targets[rows - 1] = vocabulary as u32 - 1;
    case = case.u32s("targets", targets);
    let stride = chunk.next_multiple_of(4);
    let chunks = vocabulary.div_ceil(chunk);
    for _ in 0..chunks {
        let logits = case.uniform(rows * stride).into_iter().map(|x| f64::from((x * range + shift) as f32)).collect();
        case = case.floats("logits", &[rows, stride], DType::Real, logits);
    }
    case.input("running", &[rows, 4]).output("logp", &[rows]).output("entropy", &[rows]).output("lse", &[rows]).run(
        move |device, tensors| {
            let [targets, chunks @ .., running, logp, entropy, lse] = tensors else { unreachable!() };
            for (index, logits) in chunks.iter().enumerate() {
                let first_col = (index * chunk) as u32;
                device.run(LogSoftmax {
                    logits,
                    targets,
                    running: &mut *running,
                    logp: &mut *logp,
                    entropy: &mut *entropy,
                    lse: &mut *lse,
                    rows: rows as u32,
                    cols: (chunk.min(vocabulary - index * chunk)) as u32,
                    stride: stride as u32,
                    first_row: 0,
                    first_col,
                });
            }
        },
    )
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let sizes = [(37, 123, 123), (1, 1, 1), (5, 1000, 64), (3, 999, 250), (2, 262_144, 8192)];
    let ordinary = sizes.map(|(rows, vocabulary, chunk)| case(rows, vocabulary, chunk, 5.0, 0.0));
    // The distribution is nearly a point: the target's log-prob is near 0 or near -200.
    let steep = case(16, 1000, 256, 100.0, 0.0);
    // A shift of all logits by 1000 leaves f32 only 1000 * 2^-24 = 6e-5 of absolute precision in each logit, but the
    // twin reads the same rounded logits; what is left is the rounding of m + log s (2^-24 * 1000 in lse, of 1000).
    let shifted = case(16, 1000, 256, 1.0, 1000.0);
    ordinary.into_iter().chain([steep, shifted]).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 4096, 4096, 5.0, 0.0)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(2048, 4096, 4096, 5.0, 0.0))
}
