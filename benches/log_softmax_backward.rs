use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::LogSoftmaxBackward;

/// The gradient of `rows` x `cols` logits of a chunk that starts at column `first_col`.
fn case(rows: usize, cols: usize, first_col: usize) -> Case {
    let stride = cols.next_multiple_of(4);
    let shape = format!("{rows} x {cols} from {first_col}");
    let mut case = Case::new(LogSoftmaxBackward::SIGNATURE, shape, Work::Bytes(8.0 * (rows * cols) as f64));
    let targets = case.indices(rows, first_col + cols);
    let lse = case.uniform(rows).into_iter().map(|x| x + 8.0).map(|x| f64::from(x as f32)).collect();
    case.u32s("targets", targets)
        .floats("lse", &[rows], DType::Real, lse)
        .input("dlogp", &[rows])
        .output("logits", &[rows, stride])
        .run(move |device, tensors| {
            let [targets, lse, dlogp, logits] = tensors else { unreachable!() };
            let (rows, cols, stride) = (rows as u32, cols as u32, stride as u32);
            let (first_row, first_col) = (0, first_col as u32);
            device.run(LogSoftmaxBackward { targets, lse, dlogp, logits, rows, cols, stride, first_row, first_col });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let sizes = [(37, 123, 0), (1, 1, 0), (5, 1000, 64), (64, 61, 3)];
    sizes.map(|(rows, cols, first_col)| case(rows, cols, first_col)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 4096, 0)]
}
