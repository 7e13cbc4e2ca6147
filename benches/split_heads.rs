use super::case::{Case, Work};
use crate::device::{Call, MatmulPrecision};
use crate::kernels::{Split, SplitHeads};

/// Heads of which each is scaled by itself.
fn case([tokens, heads, head_dim]: [usize; 3], precision: MatmulPrecision) -> Case {
    let split = Split { tokens, heads, head_dim, precision };
    let parts = if precision == MatmulPrecision::High { 2 } else { 1 };
    let work = Work::Bytes((tokens * heads * head_dim * (4 + 4 * parts)) as f64);
    let shape = format!("{tokens} x {heads} x {head_dim}, {precision}");
    let case = Case::new(SplitHeads::SIGNATURE, shape, work).input("x", &[tokens, heads, head_dim]);
    let case = case.u32s("magnitudes", vec![0; heads * head_dim]).u32s("halves", vec![0; split.words()]).in_place();
    case.run(move |device, tensors| {
        let [x, magnitudes, halves] = tensors else { unreachable!() };
        SplitHeads::run_with(device, split, x, magnitudes, halves);
    })
}

/// What is tested, to the bit: tokens and columns that are no whole tiles.
pub fn tests() -> Vec<Case> {
    let shapes = [[1, 1, 4], [70, 3, 64], [33, 2, 36], [64, 5, 128]];
    let precisions = [MatmulPrecision::High, MatmulPrecision::Medium];
    let of_shape = |shape| precisions.map(|precision| case(shape, precision).within(0.0));
    shapes.into_iter().flat_map(of_shape).collect()
}

/// The rows of the table.
pub fn bench() -> Vec<Case> {
    vec![case([1024, 9, 64], MatmulPrecision::High), case([1024, 9, 64], MatmulPrecision::Medium)]
}
