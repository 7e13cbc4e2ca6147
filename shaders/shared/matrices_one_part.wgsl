// Operands as one entry each, of f16 |a b - a_high b_high| <= 2^-10 |a b|, about; of f32 as they are.
const HALVES = 1u;

// Adds the products of SIZE k of a subgroup's own rows and columns.
fn multiply(row: u32, col: u32, k: u32) {
    let a0 = left_matrix(0u, row, k);
    let a1 = left_matrix(0u, row + SIZE, k);
    let a2 = left_matrix(0u, row + 2u * SIZE, k);
    let a3 = left_matrix(0u, row + 3u * SIZE, k);
    let b0 = right_matrix(0u, col, k);
    sum00 = coopMultiplyAdd(a0, b0, sum00);
    sum10 = coopMultiplyAdd(a1, b0, sum10);
    sum20 = coopMultiplyAdd(a2, b0, sum20);
    sum30 = coopMultiplyAdd(a3, b0, sum30);
    let b1 = right_matrix(0u, col + SIZE, k);
    sum01 = coopMultiplyAdd(a0, b1, sum01);
    sum11 = coopMultiplyAdd(a1, b1, sum11);
    sum21 = coopMultiplyAdd(a2, b1, sum21);
    sum31 = coopMultiplyAdd(a3, b1, sum31);
    let b2 = right_matrix(0u, col + 2u * SIZE, k);
    sum02 = coopMultiplyAdd(a0, b2, sum02);
    sum12 = coopMultiplyAdd(a1, b2, sum12);
    sum22 = coopMultiplyAdd(a2, b2, sum22);
    sum32 = coopMultiplyAdd(a3, b2, sum32);
    let b3 = right_matrix(0u, col + 3u * SIZE, k);
    sum03 = coopMultiplyAdd(a0, b3, sum03);
    sum13 = coopMultiplyAdd(a1, b3, sum13);
    sum23 = coopMultiplyAdd(a2, b3, sum23);
    sum33 = coopMultiplyAdd(a3, b3, sum33);
}
