use super::case::{Case, MATRIX_TYPES, Work};
use crate::device::{Call, DType, Precision};
use crate::kernels::{Lines, MaxMagnitude, Operand};

/// A matrix inside a larger tensor, whose magnitudes are found from place 3 on.
fn case([rows, cols]: [usize; 2], dtype: DType, by_column: bool, accumulate: bool) -> Case {
    const MARGIN: usize = 8;
    let lines = if by_column { "columns" } else { "rows" };
    let added = if accumulate { ", added" } else { "" };
    let work = Work::Bytes(dtype.bytes(rows * cols, Precision::F32) as f64);
    let case = Case::new(MaxMagnitude::SIGNATURE, format!("{lines} of {rows} x {cols}, {dtype:?}{added}"), work);
    let count = 3 + if by_column { cols } else { rows };
    // About half of what is there is larger than what is found.
    let m = (0..count).map(|i| if i % 2 == 0 { 2.0f32.to_bits() } else { 0.01f32.to_bits() }).collect();
    case.matrix("a", &[rows + 1, cols + MARGIN], dtype).u32s("m", m).in_place().run(move |device, tensors| {
        let [a, m] = tensors else { unreachable!() };
        let matrix = Operand::whole(a, cols + MARGIN).from_row(1).from_column(4);
        MaxMagnitude::run(device, Lines { matrix, rows, cols, by_column }, m, 3, accumulate);
    })
}

/// What is tested, to the bit: rows and columns that are no whole workgroups.
pub fn tests() -> Vec<Case> {
    let shapes = [[1, 4], [37, 124], [130, 1000], [600, 68]];
    let ways = [(false, false), (false, true), (true, false), (true, true)];
    let of_shape = |shape| {
        let stored = MATRIX_TYPES.into_iter();
        stored.flat_map(move |dtype| ways.map(|(by_column, accumulate)| case(shape, dtype, by_column, accumulate)))
    };
    shapes.into_iter().flat_map(of_shape).map(|case| case.within(0.0)).collect()
}

/// The rows of the table.
pub fn bench() -> Vec<Case> {
    let types = [DType::Real, DType::Bf16];
    types
        .into_iter()
        .flat_map(|dtype| [false, true].map(|by_column| case([2048, 1536], dtype, by_column, false)))
        .collect()
}
