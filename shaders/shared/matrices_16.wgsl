// Matrices of 16 x 16 f16, which are added in f32.
const SIZE = 16u;
const SCALES = true;
const IN_16_BYTES = 8u;
alias entry = f16;
alias entry4 = vec4<f16>;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

// sum + a b of two parts each, but for the product of both low ones. It is added outside of the unit, which rounds to nearest: units
// that cut off would drift with the number of steps.
fn add_parts(sum: Sum, a: Left, a_low: Left, b: Right, b_low: Right) -> Sum {
    return sum + coopMultiplyAdd(a, b, coopMultiplyAdd(a, b_low, coopMultiplyAdd(a_low, b, Sum())));
}
