// matmul: c[i, j] (+)= sum over k of a[i, k] * b[k, j]
// i < rows, j < cols, k < inner. Offsets and strides are in values, multiples of 4; so are the columns of every matrix as it is
// stored. This file says where the operands lie; matmul_tiles.wgsl, matmul_lanes.wgsl, matmul_rows.wgsl and matmul_matrices.wgsl
// compute.

struct Params {
    rows: u32,
    cols: u32,
    inner: u32,
    a_offset: u32,
    a_stride: u32,
    b_offset: u32,
    b_stride: u32,
    c_offset: u32,
    c_stride: u32,
    accumulate: u32,
    split_inner: u32,
    split_size: u32,
    row_magnitudes: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>; // [rows, a_stride]; where transposed [inner, a_stride]
@group(0) @binding(1) var<storage, read> b: array<stored>; // [inner, b_stride]; where transposed [cols, b_stride]
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>; // [rows, c_stride]
@group(0) @binding(3) var<storage, read> magnitudes: array<u32>; // of matmul_matrices.wgsl: b's columns', and a's rows'

override A_TRANSPOSED = false;
override B_TRANSPOSED = false;
// Whether consecutive k lie side by side in memory.
override LEFT_ALONG_K = !A_TRANSPOSED;
override RIGHT_ALONG_K = B_TRANSPOSED;

// Where a quad of an operand lies. Rows and columns after the last are read as the last; their sums are not stored.
fn left_place(row: u32, k: u32) -> u32 {
    if (A_TRANSPOSED) {
        return (params.a_offset + k * params.a_stride + min(row, params.rows - 4u)) / 4u;
    }
    return (params.a_offset + min(row, params.rows - 1u) * params.a_stride + k) / 4u;
}

fn right_place(col: u32, k: u32) -> u32 {
    if (B_TRANSPOSED) {
        return (params.b_offset + min(col, params.cols - 1u) * params.b_stride + k) / 4u;
    }
    return (params.b_offset + k * params.b_stride + min(col, params.cols - 4u)) / 4u;
}

// A quad, as it is stored.
fn left_quad(place: u32) -> vec4<f32> {
    return a[place];
}

fn right_quad(quad: u32) -> weight4 {
    let at = places_of(quad);
    return weight_of(b[at.x], b[at.y], b[at.z], b[at.w], quad);
}

// The largest magnitude of a row of a and of a column of b, as bits.
fn left_magnitude(row: u32) -> u32 {
    return magnitudes[params.row_magnitudes + min(row, params.rows - 1u)];
}

fn right_magnitude(col: u32) -> u32 {
    return magnitudes[min(col, params.cols - 1u)];
}

// The grid of tiles of a size, columns first.
fn grid_of(size: vec2<u32>) -> vec2<u32> {
    return (vec2(params.cols, params.rows) + size - 1u) / size;
}

// The first column and row of a tile.
fn corner_of(tile: vec2<u32>, size: vec2<u32>) -> vec2<u32> {
    return tile * size;
}

// How many parts the k have, one after the other.
const PARTS = 1u;

// Begins a part of the k of a layer of the grid: its first k, and where it ends.
fn enter(part: u32, layer: u32) -> vec2<u32> {
    let first = layer * params.split_inner;
    return vec2(first, min(first + params.split_inner, params.inner));
}

// Stores four sums where they are of c.
fn store(row: u32, col: u32, layer: u32, sum: vec4<f32>) {
    if (row < params.rows && col < params.cols) {
        let place = (params.c_offset + layer * params.split_size + row * params.c_stride + col) / 4u;
        if (params.accumulate != 0u) {
            c[place] += sum;
        } else {
            c[place] = sum;
        }
    }
}
