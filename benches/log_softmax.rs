use super::case::{Case, Work};
use crate::device::Call;
use crate::device::DType;
use crate::kernels::LogSoftmax;

/// Log-softmax of `rows` x `vocabulary` logits between `-range` and `range` plus `shift`, in chunks of `chunk` columns.
/// The first and the last id are among the targets.
pub fn case(rows: usize, vocabulary: usize, chunk: usize, range: f64, shift: f64) -> Case {
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

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 4096, 4096, 5.0, 0.0)]
}
