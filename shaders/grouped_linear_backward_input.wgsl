// grouped_linear_backward_input: dx[i, j] = sum over p and k of dy_p[i, k] * w_p[k, j], for up to three matrices w_p
// i < rows, j < cols, k < inner_p; all are multiples of 4 but the rows. A part without k is not there. This file says where
// the operands lie; matmul_tiles.wgsl, matmul_lanes.wgsl and matmul_matrices.wgsl compute.

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
@group(0) @binding(3) var<storage, read> w0: array<stored>; // [inner0, cols]
@group(0) @binding(4) var<storage, read> w1: array<stored>; // [inner1, cols]
@group(0) @binding(5) var<storage, read> w2: array<stored>; // [inner2, cols]
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(7) var<storage, read> magnitudes: array<u32>; // of matmul_matrices.wgsl: the columns' and the rows', of all parts

// The largest magnitude of a row and of a column, of all parts, as bits.
fn left_magnitude(row: u32) -> u32 {
    return magnitudes[params.cols + params.first_row + min(row, params.rows - 1u)];
}

fn right_magnitude(col: u32) -> u32 {
    return magnitudes[min(col, params.cols - 1u)];
}

// Whether consecutive k lie side by side in memory.
const LEFT_ALONG_K = true;
const RIGHT_ALONG_K = false;

// The part that is being read, and its k.
var<private> part: u32;
var<private> inner: u32;

// How many parts the k have, one after the other.
const PARTS = 3u;

fn enter(part_of_k: u32, layer: u32) -> vec2<u32> {
    let its = select(select(params.inner2, params.inner1, part_of_k == 1u), params.inner0, part_of_k == 0u);
    part = part_of_k;
    inner = its;
    return vec2(0u, its);
}

// The grid of tiles of a size, columns first.
fn grid_of(size: vec2<u32>) -> vec2<u32> {
    return (vec2(params.cols, params.rows) + size - 1u) / size;
}

fn corner_of(tile: vec2<u32>, size: vec2<u32>) -> vec2<u32> {
    return tile * size;
}

// Where a quad of an operand lies. Rows and columns after the last are read as the last; their sums are not stored.
fn left_place(row: u32, k: u32) -> u32 {
    return ((params.first_row + min(row, params.rows - 1u)) * inner + k) / 4u;
}

fn right_place(col: u32, k: u32) -> u32 {
    return (k * params.cols + min(col, params.cols - 4u)) / 4u;
}

// A quad, as it is stored.
fn left_quad(place: u32) -> vec4<f32> {
    if (part == 0u) {
        return dy0[place];
    }
    if (part == 1u) {
        return dy1[place];
    }
    return dy2[place];
}

fn right_quad(quad: u32) -> weight4 {
    if (part == 0u) {
        let at = places_of(quad);
        return weight_of(w0[at.x], w0[at.y], w0[at.z], w0[at.w], quad);
    }
    if (part == 1u) {
        let at = places_of(quad);
        return weight_of(w1[at.x], w1[at.y], w1[at.z], w1[at.w], quad);
    }
    let at = places_of(quad);
    return weight_of(w2[at.x], w2[at.y], w2[at.z], w2[at.w], quad);
}

fn store(row: u32, col: u32, layer: u32, sum: vec4<f32>) {
    if (row < params.rows && col < params.cols) {
        dx[((params.first_row + row) * params.cols + col) / 4u] = sum;
    }
}
