use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::Embedding;

/// `tokens` rows of `cols` from the table of `rows`, cut into two shards.
fn case(tokens: usize, rows: usize, cols: usize, dtype: DType) -> Case {
    let work = Work::Bytes(8.0 * (tokens * cols) as f64);
    let mut case = Case::new(Embedding::SIGNATURE, format!("{tokens} of {rows} x {cols}, {dtype:?}"), work);
    let (ids, first, second) = (case.indices(tokens, rows), rows / 2, rows - rows / 2);
    let (lower, upper) = (case.uniform(first * cols), case.uniform(second * cols));
    case.u32s("ids", ids)
        .floats("lower", &[first, cols], dtype, lower)
        .floats("upper", &[second, cols], dtype, upper)
        .output("y", &[tokens, cols])
        .run(move |device, tensors| {
            let [ids, lower, upper, y] = tensors else { unreachable!() };
            let (tokens, cols) = (tokens as u32, cols as u32);
            for (weight, first_row, shard_rows) in [(&*lower, 0, first), (&*upper, first, second)] {
                let (first_row, shard_rows) = (first_row as u32, shard_rows as u32);
                device.run(Embedding { ids, weight, y: &mut *y, tokens, cols, first_row, shard_rows, scale: 1.5 });
            }
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // A product or, of blocks, two, each rounded once.
    let sizes = [(37, 11, 124), (1, 1, 4), (300, 1000, 64)].into_iter();
    let types = [DType::Real, DType::Bf16, DType::Q8];
    let stored = |(tokens, rows, cols)| types.map(|dtype| case(tokens, rows, cols, dtype));
    sizes.flat_map(stored).map(|case| case.within(1e-6)).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 4096, 576, DType::Real)]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(2048, 151_936, 896, DType::Real))
}
