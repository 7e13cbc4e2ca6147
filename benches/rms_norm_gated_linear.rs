use super::case::{Case, MATRIX_TYPES, Work};
use crate::device::{Call, DType, Precision};
use crate::kernels::{Activation, GatedWeights, NormScale, RmsNormGatedLinear};

/// Of one row the limit is to read the weights once.
fn case([rows, cols, inner]: [usize; 3], dtype: DType, activation: Activation, offset: f32) -> Case {
    let shape = format!("{rows} x {cols} x {inner}, {dtype:?}, {activation:?}, offset {offset}");
    let weights = 2 * cols * inner;
    let bytes = dtype.bytes(weights, Precision::F32);
    let work = if rows == 1 { Work::Bytes(bytes as f64) } else { Work::Flops(2.0 * (rows * weights) as f64) };
    let case = Case::new(RmsNormGatedLinear::SIGNATURE, shape, work);
    case.input("x", &[rows, inner])
        .input("norm", &[inner])
        .matrix("gate", &[cols, inner], dtype)
        .matrix("up", &[cols, inner], dtype)
        .output("act", &[rows, cols])
        .run(move |device, tensors| {
            let [x, weight, gate, up, act] = tensors else { unreachable!() };
            let (scale, weights) = (NormScale { weight, epsilon: 1e-5, offset }, GatedWeights { gate, up, cols });
            RmsNormGatedLinear::run(device, x, scale, weights, activation, act, [rows, inner]);
        })
}

/// What is tested: few rows and many, columns that are no whole tiles.
pub fn tests() -> Vec<Case> {
    let sizes = [[1, 36, 100], [3, 132, 36], [8, 64, 576], [37, 124, 20]];
    let activations = [(Activation::Silu, 0.0), (Activation::GeluTanh, 1.0)];
    let types = MATRIX_TYPES.into_iter().zip(activations.into_iter().cycle());
    types.flat_map(|(dtype, (activation, offset))| sizes.map(|size| case(size, dtype, activation, offset))).collect()
}

/// The row of the table: a decoded token of 32 sequences.
pub fn bench() -> Vec<Case> {
    vec![case([32, 1536, 576], DType::Real, Activation::Silu, 0.0)]
}

/// The large row of the table: of one sequence.
pub fn large() -> impl Iterator<Item = Case> {
    std::iter::once(case([1, 18944, 3584], DType::Bf16, Activation::Silu, 0.0))
}
