use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{SUM_SQUARES_BLOCK, SumSquares};

/// The sums of squares of `count` values.
fn case(count: usize) -> Case {
    let blocks = count.div_ceil(SUM_SQUARES_BLOCK);
    Case::new(SumSquares::SIGNATURE, format!("{count}"), Work::Bytes(4.0 * count as f64))
        .input("x", &[count])
        .output("partials", &[blocks + 2])
        .run(move |device, tensors| {
            let [x, partials] = tensors else { unreachable!() };
            device.run(SumSquares { x, partials, count: count as u32, first_partial: 1 });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    [1, 37 * 123, 16384, 16385, 100_003].map(case).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1 << 22)]
}
