// grouped_linear_backward_input: dx[i, j] = sum over p and k of dy_p[i, k] * w_p[k, j], for up to three matrices w_p
// i < rows, j < cols, k < inner_p; all are multiples of 4 but the rows. A part without k is not there. This file reads the
// operands; matmul_tiles.wgsl and matmul_lanes.wgsl compute.

struct Params {
    first_row: u32,
    rows: u32,
    cols: u32,
    inner0: u32,
    inner1: u32,
    inner2: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> dy0: array<vec4<f32>>; // [rows, inner0]
@group(0) @binding(1) var<storage, read> dy1: array<vec4<f32>>; // [rows, inner1]
@group(0) @binding(2) var<storage, read> dy2: array<vec4<f32>>; // [rows, inner2]
@group(0) @binding(3) var<storage, read> w0: array<weight4>; // [inner0, cols]
@group(0) @binding(4) var<storage, read> w1: array<weight4>; // [inner1, cols]
@group(0) @binding(5) var<storage, read> w2: array<weight4>; // [inner2, cols]
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>; // [rows, cols]

// Whether consecutive k lie side by side in memory.
const LEFT_ALONG_K = true;
const RIGHT_ALONG_K = false;

// The k of the parts stand end to end, each filled up to whole steps.
const STEP = 16u;

// The part that is being read, its k, and where they begin.
var<private> part: u32;
var<private> inner: u32;
var<private> before: u32;

fn filled(inner: u32) -> u32 {
    return (inner + STEP - 1u) / STEP * STEP;
}

fn enter(k: u32) {
    let first1 = filled(params.inner0);
    let first2 = first1 + filled(params.inner1);
    part = select(select(2u, 1u, k < first2), 0u, k < first1);
    inner = select(select(params.inner2, params.inner1, part == 1u), params.inner0, part == 0u);
    before = select(select(first2, first1, part == 1u), 0u, part == 0u);
}

fn k_range(layer: u32) -> vec2<u32> {
    return vec2(0u, filled(params.inner0) + filled(params.inner1) + filled(params.inner2));
}

// The grid of tiles of a size, columns first.
fn grid_of(size: vec2<u32>) -> vec2<u32> {
    return (vec2(params.cols, params.rows) + size - 1u) / size;
}

fn corner_of(tile: vec2<u32>, size: vec2<u32>) -> vec2<u32> {
    return tile * size;
}

// Rows and columns after the last are read as the last; their sums are not stored.
fn left_row(row: u32, k: u32) -> vec4<f32> {
    let place = ((params.first_row + min(row, params.rows - 1u)) * inner + k) / 4u;
    if (part == 0u) {
        return dy0[place];
    }
    if (part == 1u) {
        return dy1[place];
    }
    return dy2[place];
}

fn right_k(k: u32, col: u32) -> vec4<f32> {
    let place = (k * params.cols + min(col, params.cols - 4u)) / 4u;
    if (part == 0u) {
        return unpack(w0[place]);
    }
    if (part == 1u) {
        return unpack(w1[place]);
    }
    return unpack(w2[place]);
}

fn left_at(row: u32, k: u32) -> mat4x4<f32> {
    let at = k - before;
    if (at >= inner) {
        return mat4x4<f32>();
    }
    return transpose(mat4x4(left_row(row, at), left_row(row + 1u, at), left_row(row + 2u, at), left_row(row + 3u, at)));
}

fn right_at(col: u32, k: u32) -> mat4x4<f32> {
    let at = k - before;
    if (at >= inner) {
        return mat4x4<f32>();
    }
    return mat4x4(right_k(at, col), right_k(at + 1u, col), right_k(at + 2u, col), right_k(at + 3u, col));
}

fn store(row: u32, col: u32, layer: u32, sum: vec4<f32>) {
    if (row < params.rows && col < params.cols) {
        dx[((params.first_row + row) * params.cols + col) / 4u] = sum;
    }
}
