use super::case::{Case, MATRIX_TYPES, Work};
use crate::device::{Call, DType};
use crate::kernels::{GroupedOutput, NormScale, RmsNormLinear};

fn case(rows: usize, cols: [usize; 3], inner: usize, dtype: DType, offset: f32) -> Case {
    let all: usize = cols.iter().sum();
    let shape = format!("{rows} x {cols:?} x {inner}, {dtype:?}, offset {offset}");
    let mut case = Case::new(RmsNormLinear::SIGNATURE, shape, Work::Flops(2.0 * (rows * all * inner) as f64));
    case = case.input("x", &[rows, inner]).input("norm", &[inner]);
    for (name, cols) in ["w0", "w1", "w2"].into_iter().zip(cols) {
        case = case.matrix(name, &[cols.max(4), inner], dtype);
    }
    for (name, cols) in ["y0", "y1", "y2"].into_iter().zip(cols) {
        case = case.output(name, &[rows, cols.max(4)]);
    }
    case.run(move |device, tensors| {
        let [x, weight, w0, w1, w2, y0, y1, y2] = tensors else { unreachable!() };
        let outputs = [
            GroupedOutput { w: w0, y: y0, cols: cols[0] },
            GroupedOutput { w: w1, y: y1, cols: cols[1] },
            GroupedOutput { w: w2, y: y2, cols: cols[2] },
        ];
        RmsNormLinear::run(device, x, NormScale { weight, epsilon: 1e-5, offset }, outputs, rows, inner);
    })
}

/// What is tested: few rows and many, parts that are no whole tiles, two parts; rows that are whole blocks.
pub fn tests() -> Vec<Case> {
    let sizes = [
        (1, [36, 12, 12], 100),
        (1, [12, 4, 4], 768),
        (3, [132, 68, 4], 36),
        (8, [64, 8, 200], 576),
        (9, [36, 4, 0], 512),
        (37, [124, 4, 0], 20),
    ];
    let stored = |(rows, cols, inner)| {
        let types = MATRIX_TYPES.into_iter().zip([0.0, 1.0].into_iter().cycle());
        types.map(move |(dtype, offset)| case(rows, cols, inner, dtype, offset))
    };
    sizes.into_iter().flat_map(stored).collect()
}

/// The row of the table: queries, keys and values of a decoded token of 32 sequences.
pub fn bench() -> Vec<Case> {
    vec![case(32, [576, 192, 192], 576, DType::Real, 0.0)]
}
