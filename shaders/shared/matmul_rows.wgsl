// The product of few rows, FEW_ROWS a workgroup, by a transposed matrix, for GPUs: weights are read as fast as memory gives them.
// A workgroup has 8 columns (few_rows.wgsl).

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    prepare(lane);
    let corner = corner_at(workgroup, vec2(8u, FEW_ROWS));
    let first_row = corner.y;
    let col = corner.x + 4u * (lane / SHARE);
    let share = lane % SHARE;
    var sums: array<vec4<f32>, FEW_ROWS>;
    for (var k = 4u * share; k < params.inner; k += 4u * SHARE) {
        let right = right_at(col, k);
        for (var r = 0u; r < FEW_ROWS; r += 1u) {
            let left = left_quad(left_place(first_row + r, k));
            let two = fma(vec4(left.y), right[1], fma(vec4(left.x), right[0], sums[r]));
            sums[r] = fma(vec4(left.w), right[3], fma(vec4(left.z), right[2], two));
        }
    }
    for (var r = 0u; r < FEW_ROWS; r += 1u) {
        row_sums[r * LANES + lane] = sums[r];
    }
    workgroupBarrier();
    for (var span = SHARE / 2u; span > 0u; span /= 2u) {
        if (share < span) {
            for (var r = 0u; r < FEW_ROWS; r += 1u) {
                row_sums[r * LANES + lane] += row_sums[r * LANES + lane + span];
            }
        }
        workgroupBarrier();
    }
    if (share < FEW_ROWS) {
        store(first_row + share, col, 0u, row_sums[share * LANES + lane - share]);
    }
}
