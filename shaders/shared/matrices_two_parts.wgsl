// Operands as two f16 each. Of the four products that of the low parts is left out:
//   |a b - (a_high b_high + a_high b_low + a_low b_high)| <= (2^-23 + 2^-23 + 2^-22) |a b|
// about, of what is left of both operands, and of what is left out.
const HALVES = 2u;

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
    sum00 = add_parts(sum00, a0, a0_low, b0, b0_low);
    sum10 = add_parts(sum10, a1, a1_low, b0, b0_low);
    sum20 = add_parts(sum20, a2, a2_low, b0, b0_low);
    sum30 = add_parts(sum30, a3, a3_low, b0, b0_low);
    let b1 = right_matrix(0u, col + SIZE, k);
    let b1_low = right_matrix(1u, col + SIZE, k);
    sum01 = add_parts(sum01, a0, a0_low, b1, b1_low);
    sum11 = add_parts(sum11, a1, a1_low, b1, b1_low);
    sum21 = add_parts(sum21, a2, a2_low, b1, b1_low);
    sum31 = add_parts(sum31, a3, a3_low, b1, b1_low);
    let b2 = right_matrix(0u, col + 2u * SIZE, k);
    let b2_low = right_matrix(1u, col + 2u * SIZE, k);
    sum02 = add_parts(sum02, a0, a0_low, b2, b2_low);
    sum12 = add_parts(sum12, a1, a1_low, b2, b2_low);
    sum22 = add_parts(sum22, a2, a2_low, b2, b2_low);
    sum32 = add_parts(sum32, a3, a3_low, b2, b2_low);
    let b3 = right_matrix(0u, col + 3u * SIZE, k);
    let b3_low = right_matrix(1u, col + 3u * SIZE, k);
    sum03 = add_parts(sum03, a0, a0_low, b3, b3_low);
    sum13 = add_parts(sum13, a1, a1_low, b3, b3_low);
    sum23 = add_parts(sum23, a2, a2_low, b3, b3_low);
    sum33 = add_parts(sum33, a3, a3_low, b3, b3_low);
}
