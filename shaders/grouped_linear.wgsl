// grouped_linear: y_p[i, j] = sum over k of x[i, k] * w_p[j, k], for up to three matrices w_p with the same x
// i < rows, j < cols_p, k < inner; all are multiples of 4 but the rows. A part without columns is not there. linear_parts.wgsl says
// where the operands lie; matmul_tiles.wgsl, matmul_lanes.wgsl, matmul_rows.wgsl and matmul_matrices.wgsl compute.

struct Params {
    first_row: u32,
    rows: u32,
    inner: u32,
    cols0: u32,
    cols1: u32,
    cols2: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, inner]
@group(0) @binding(1) var<storage, read> w0: array<stored>; // [cols0, inner]
@group(0) @binding(2) var<storage, read> w1: array<stored>; // [cols1, inner]
@group(0) @binding(3) var<storage, read> w2: array<stored>; // [cols2, inner]
@group(0) @binding(4) var<storage, read_write> y0: array<vec4<f32>>; // [rows, cols0]
@group(0) @binding(5) var<storage, read_write> y1: array<vec4<f32>>; // [rows, cols1]
@group(0) @binding(6) var<storage, read_write> y2: array<vec4<f32>>; // [rows, cols2]
@group(0) @binding(7) var<storage, read> magnitudes: array<u32>; // of matmul_matrices.wgsl: the parts' columns', and x's rows'

// The largest magnitude of a row of x, and of a column of the part that is computed, as bits.
fn left_magnitude(row: u32) -> u32 {
    return magnitudes[params.cols0 + params.cols1 + params.cols2 + params.first_row + min(row, params.rows - 1u)];
}

fn right_magnitude(col: u32) -> u32 {
    let first = select(0u, params.cols0, part > 0u) + select(0u, params.cols1, part > 1u);
    return magnitudes[first + min(col, cols - 1u)];
}

// Whether consecutive k lie side by side in memory.
const LEFT_ALONG_K = true;
const RIGHT_ALONG_K = true;

// How many parts the k have: one.
const PARTS = 1u;

fn enter(part_of_k: u32, layer: u32) -> vec2<u32> {
    return vec2(0u, params.inner);
}
