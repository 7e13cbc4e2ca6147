// The product of few rows, FEW_ROWS a workgroup, that RMSNorm normalises on the way, by a transposed matrix, for GPUs
// (few_rows.wgsl):
//   sum over k of n[k] w[k] = rstd * sum over k of x[k] (offset + norm[k]) w[k]   of n[k] = x[k] * rstd * (offset + norm[k])
// so that the squares, of which rstd is made, are summed in the same loop.
var<workgroup> row_squares: array<f32, FEW_ROWS * LANES>; // [FEW_ROWS, LANES]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    prepare(lane);
    let corner = corner_at(workgroup, vec2(COLS, FEW_ROWS));
    let first_row = corner.y;
    let col = column_of(corner.x, lane / SHARE);
    let share = lane % SHARE;
    var sums: array<vec4<f32>, FEW_ROWS>;
    var squares: array<f32, FEW_ROWS>;
    for (var k = 4u * share; k < params.inner; k += 4u * SHARE) {
        let factor = params.offset + norm[k / 4u];
        let right = right_at(col, k);
        let scaled = mat4x4(factor.x * right[0], factor.y * right[1], factor.z * right[2], factor.w * right[3]);
        for (var r = 0u; r < FEW_ROWS; r += 1u) {
            let left = left_quad(left_place(first_row + r, k));
            squares[r] = fma(left.w, left.w, fma(left.z, left.z, fma(left.y, left.y, fma(left.x, left.x, squares[r]))));
            let two = fma(vec4(left.y), scaled[1], fma(vec4(left.x), scaled[0], sums[r]));
            sums[r] = fma(vec4(left.w), scaled[3], fma(vec4(left.z), scaled[2], two));
        }
    }
    for (var r = 0u; r < FEW_ROWS; r += 1u) {
        row_sums[r * LANES + lane] = sums[r];
        row_squares[r * LANES + lane] = squares[r];
    }
    workgroupBarrier();
    for (var span = SHARE / 2u; span > 0u; span /= 2u) {
        if (share < span) {
            for (var r = 0u; r < FEW_ROWS; r += 1u) {
                row_sums[r * LANES + lane] += row_sums[r * LANES + lane + span];
                row_squares[r * LANES + lane] += row_squares[r * LANES + lane + span];
            }
        }
        workgroupBarrier();
    }
    if (share < FEW_ROWS) {
        let first = share * LANES;
        let rstd = 1.0 / sqrt(row_squares[first] / f32(params.inner) + params.epsilon);
        finish(first_row + share, col, lane / SHARE, rstd * row_sums[first], rstd * row_sums[first + SHARE]);
    }
}
