// The matrix product for an adapter that is a CPU with subgroups of 8: a load costs much there, and a barrier more, so a
// workgroup is one subgroup and computes 32 x 64 outputs without workgroup memory. A lane has all 32 rows of two quads of
// columns; it loads four rows of the left operand, and the lanes hand them round. Every output is one chain of fma in
// ascending k, as in matmul_tiles.wgsl.
const LANES = 8u;
const HALF = 32u; // columns from a lane's first quad to its second

// Four rows of both quads: [quad, row].
alias Sums = array<vec4<f32>, 8>;

// sum + the products over four k; left has the row's values.
fn chain(sum: vec4<f32>, left: vec4<f32>, right: mat4x4<f32>) -> vec4<f32> {
    let two = fma(vec4(left.y), right[1], fma(vec4(left.x), right[0], sum));
    return fma(vec4(left.w), right[3], fma(vec4(left.z), right[2], two));
}

// Column d has the four rows from `row` on at k + d; zeros after the last k. Along k, the last k is the end of a quad.
fn left_at(row: u32, k: u32, end: u32) -> mat4x4<f32> {
    if (LEFT_ALONG_K) {
        return transpose(mat4x4(
            left_quad(left_place(row, k)),
            left_quad(left_place(row + 1u, k)),
            left_quad(left_place(row + 2u, k)),
            left_quad(left_place(row + 3u, k)),
        ));
    }
    return mat4x4(left_k(row, k, end), left_k(row, k + 1u, end), left_k(row, k + 2u, end), left_k(row, k + 3u, end));
}

fn left_k(row: u32, k: u32, end: u32) -> vec4<f32> {
    return select(vec4(0.0), left_quad(left_place(row, min(k, end - 1u))), k < end);
}

// Column d has the four columns from `col` on at k + d, where k is not after the last.
fn right_at(col: u32, k: u32, end: u32) -> mat4x4<f32> {
    if (RIGHT_ALONG_K) {
        return transpose(mat4x4(right_k(col, k), right_k(col + 1u, k), right_k(col + 2u, k), right_k(col + 3u, k)));
    }
    let last = end - 1u;
    return mat4x4(
        right_k(col, k),
        right_k(col, min(k + 1u, last)),
        right_k(col, min(k + 2u, last)),
        right_k(col, min(k + 3u, last)),
    );
}

fn right_k(col: u32, k: u32) -> vec4<f32> {
    return unpack(right_quad(right_place(col, k)));
}

// Adds the products of the four rows that lane `source` has loaded.
fn multiply(sums: ptr<function, Sums>, left: mat4x4<f32>, source: u32, right: array<mat4x4<f32>, 2>) {
    let k0 = subgroupShuffle(left[0], source);
    let k1 = subgroupShuffle(left[1], source);
    let k2 = subgroupShuffle(left[2], source);
    let k3 = subgroupShuffle(left[3], source);
    for (var r = 0u; r < 4u; r += 1u) {
        let row = vec4(k0[r], k1[r], k2[r], k3[r]);
        (*sums)[r] = chain((*sums)[r], row, right[0]);
        (*sums)[4u + r] = chain((*sums)[4u + r], row, right[1]);
    }
}

fn store_all(sums: ptr<function, Sums>, first_row: u32, first_col: u32, layer: u32) {
    for (var i = 0u; i < 8u; i += 1u) {
        store(first_row + i % 4u, first_col + (i / 4u) * HALF, layer, (*sums)[i]);
    }
}

// The rows are written out, not an array in a loop: arrays at an index that is not constant are slow there.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    prepare(lane);
    let corner = corner_of(workgroup.xy, vec2(2u * HALF, 4u * LANES));
    let row = corner.y;
    let col = corner.x + 4u * lane;
    var rows0: Sums;
    var rows4: Sums;
    var rows8: Sums;
    var rows12: Sums;
    var rows16: Sums;
    var rows20: Sums;
    var rows24: Sums;
    var rows28: Sums;
    for (var part = 0u; part < PARTS; part += 1u) {
        let range = enter(part, workgroup.z);
        for (var k = range.x; k < range.y; k += 4u) {
            let left = left_at(row + 4u * lane, k, range.y);
            let right = array(right_at(col, k, range.y), right_at(col + HALF, k, range.y));
            multiply(&rows0, left, 0u, right);
            multiply(&rows4, left, 1u, right);
            multiply(&rows8, left, 2u, right);
            multiply(&rows12, left, 3u, right);
            multiply(&rows16, left, 4u, right);
            multiply(&rows20, left, 5u, right);
            multiply(&rows24, left, 6u, right);
            multiply(&rows28, left, 7u, right);
        }
    }
    store_all(&rows0, row, col, workgroup.z);
    store_all(&rows4, row + 4u, col, workgroup.z);
    store_all(&rows8, row + 8u, col, workgroup.z);
    store_all(&rows12, row + 12u, col, workgroup.z);
    store_all(&rows16, row + 16u, col, workgroup.z);
    store_all(&rows20, row + 20u, col, workgroup.z);
    store_all(&rows24, row + 24u, col, workgroup.z);
    store_all(&rows28, row + 28u, col, workgroup.z);
}
