use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{SUM_SQUARES_BLOCK, SumSquares};

/// The sums of squares of tensors of these sizes.
fn case(counts: &'static [usize]) -> Case {
    let blocks: usize = counts.iter().map(|count| count.div_ceil(SUM_SQUARES_BLOCK)).sum();
    let count: usize = counts.iter().sum();
    let mut case = Case::new(SumSquares::SIGNATURE, format!("{counts:?}"), Work::Bytes(4.0 * count as f64));
    for &count in counts {
        case = case.input("x", &[count]);
    }
    case.output("partials", &[blocks + 2]).run(move |device, tensors| {
        let [x @ .., partials] = tensors else { unreachable!() };
        SumSquares::run(device, &x.iter().collect::<Vec<_>>(), partials);
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let few: [&[usize]; 5] = [&[1], &[37 * 123], &[16384, 16385], &[100_003, 4, 20_000], &[1; 7]];
    // More than one dispatch, with nothing among them.
    few.into_iter().chain([&[3, 0, 16385, 5, 6, 7, 8, 16384, 10, 40_000][..]]).map(case).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[1 << 20; 4])]
}

/// The large row of the table.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case(&[1 << 24; 4]))
}
