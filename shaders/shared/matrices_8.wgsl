// Matrices of 8 x 8 f16, which are added in f32.
const SIZE = 8u;
const SCALES = true;
const IN_16_BYTES = 8u;
alias entry = f16;
alias entry4 = vec4<f16>;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;

// sum + a b of two parts each, but for the product of both low ones. It is added in the unit: Metal adds no matrices, and its units
// round to nearest.
fn add_parts(sum: Sum, a: Left, a_low: Left, b: Right, b_low: Right) -> Sum {
    return coopMultiplyAdd(a, b, coopMultiplyAdd(a, b_low, coopMultiplyAdd(a_low, b, sum)));
}
