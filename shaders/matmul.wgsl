// matmul: c[i, j] (+)= sum over k of a[i, k] * b[k, j]
// i < rows, j < cols, k < inner. Offsets and strides are in values, multiples of 4; so are the columns of every matrix as it is
// stored. This file reads the operands; matmul_tiles.wgsl, matmul_lanes.wgsl and matmul_rows.wgsl compute.

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
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>; // [rows, a_stride]; where transposed [inner, a_stride]
@group(0) @binding(1) var<storage, read> b: array<weight4>; // [inner, b_stride]; where transposed [cols, b_stride]
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>; // [rows, c_stride]

override A_TRANSPOSED = false;
override B_TRANSPOSED = false;
// Whether consecutive k lie side by side in memory.
override LEFT_ALONG_K = !A_TRANSPOSED;
override RIGHT_ALONG_K = B_TRANSPOSED;

// Four values of a stored row.
fn a_quad(row: u32, col: u32) -> vec4<f32> {
    return a[(params.a_offset + row * params.a_stride + col) / 4u];
}

fn b_quad(row: u32, col: u32) -> vec4<f32> {
    return unpack(b[(params.b_offset + row * params.b_stride + col) / 4u]);
}

// Rows and columns after the last are read as the last; their sums are not stored. Where an operand's rows are the k, inner
// need not be a multiple of 4: rows of a after the last count as zeros.
fn left_row(row: u32, k: u32) -> vec4<f32> {
    return a_quad(min(row, params.rows - 1u), k);
}

fn left_k(k: u32, row: u32) -> vec4<f32> {
    let value = a_quad(min(k, params.inner - 1u), min(row, params.rows - 4u));
    return select(vec4(0.0), value, k < params.inner);
}

fn right_col(col: u32, k: u32) -> vec4<f32> {
    return b_quad(min(col, params.cols - 1u), k);
}

fn right_k(k: u32, col: u32) -> vec4<f32> {
    return b_quad(min(k, params.inner - 1u), min(col, params.cols - 4u));
}

// Column d has the four rows from `row` on at k + d; zeros after the last k.
fn left_at(row: u32, k: u32) -> mat4x4<f32> {
    if (k >= params.inner) {
        return mat4x4<f32>();
    }
    if (A_TRANSPOSED) {
        return mat4x4(left_k(k, row), left_k(k + 1u, row), left_k(k + 2u, row), left_k(k + 3u, row));
    }
    return transpose(mat4x4(left_row(row, k), left_row(row + 1u, k), left_row(row + 2u, k), left_row(row + 3u, k)));
}

// Column d has the four columns from `col` on at k + d; zeros after the last k.
fn right_at(col: u32, k: u32) -> mat4x4<f32> {
    if (k >= params.inner) {
        return mat4x4<f32>();
    }
    if (B_TRANSPOSED) {
        return transpose(mat4x4(right_col(col, k), right_col(col + 1u, k), right_col(col + 2u, k), right_col(col + 3u, k)));
    }
    return mat4x4(right_k(k, col), right_k(k + 1u, col), right_k(k + 2u, col), right_k(k + 3u, col));
}

// The grid of tiles of a size, columns first.
fn grid_of(size: vec2<u32>) -> vec2<u32> {
    return (vec2(params.cols, params.rows) + size - 1u) / size;
}

// The first column and row of a tile.
fn corner_of(tile: vec2<u32>, size: vec2<u32>) -> vec2<u32> {
    return tile * size;
}

// Called before a step's operands are read, with its first k.
fn enter(k: u32) {}

// The first k of a layer of the grid, and where it ends.
fn k_range(layer: u32) -> vec2<u32> {
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
