// Operands as two f16 each. Of the four products that of the low parts is left out:
//   |a b - (a_high b_high + a_high b_low + a_low b_high)| <= (2^-23 + 2^-23 + 2^-22) |a b|
// about, of what is left of both operands, and of what is left out.
// A step's sum is added outside of the unit, which rounds to nearest: units that cut off would drift with the number of steps.
const HALVES = 2u;

fn product(a: Left, a_low: Left, b: Right, b_low: Right) -> Sum {
    return coopMultiplyAdd(a, b, coopMultiplyAdd(a, b_low, coopMultiplyAdd(a_low, b, Sum())));
}

// Adds the products of SIZE k of a subgroup's own rows and columns.
fn multiply(row: u32, col: u32, k: u32) {
    let a0 = left_matrix(0u, row, k);
    let a1 = left_matrix(0u, row + SIZE, k);
    let a2 = left_matrix(0u, row + 2u * SIZE, k);
    let a3 = left_matrix(0u, row + 3u * SIZE, k);
    let a0_low = left_matrix(1u, row, k);
    let a1_low = left_matrix(1u, row + SIZE, k);
    let a2_low = left_matrix(1u, row + 2u * SIZE, k);
    let a3_low = left_matrix(1u, row + 3u * SIZE, k);
    let b0 = right_matrix(0u, col, k);
    let b0_low = right_matrix(1u, col, k);
    sum00 = sum00 + product(a0, a0_low, b0, b0_low);
    sum10 = sum10 + product(a1, a1_low, b0, b0_low);
    sum20 = sum20 + product(a2, a2_low, b0, b0_low);
    sum30 = sum30 + product(a3, a3_low, b0, b0_low);
    let b1 = right_matrix(0u, col + SIZE, k);
    let b1_low = right_matrix(1u, col + SIZE, k);
    sum01 = sum01 + product(a0, a0_low, b1, b1_low);
    sum11 = sum11 + product(a1, a1_low, b1, b1_low);
    sum21 = sum21 + product(a2, a2_low, b1, b1_low);
    sum31 = sum31 + product(a3, a3_low, b1, b1_low);
    let b2 = right_matrix(0u, col + 2u * SIZE, k);
    let b2_low = right_matrix(1u, col + 2u * SIZE, k);
    sum02 = sum02 + product(a0, a0_low, b2, b2_low);
    sum12 = sum12 + product(a1, a1_low, b2, b2_low);
    sum22 = sum22 + product(a2, a2_low, b2, b2_low);
    sum32 = sum32 + product(a3, a3_low, b2, b2_low);
    let b3 = right_matrix(0u, col + 3u * SIZE, k);
    let b3_low = right_matrix(1u, col + 3u * SIZE, k);
    sum03 = sum03 + product(a0, a0_low, b3, b3_low);
    sum13 = sum13 + product(a1, a1_low, b3, b3_low);
    sum23 = sum23 + product(a2, a2_low, b3, b3_low);
    sum33 = sum33 + product(a3, a3_low, b3, b3_low);
}
