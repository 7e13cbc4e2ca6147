// matmul_tn: c[i, j] (+)= sum over k of a[k, i] * b[k, j]          (a layer's weight gradient: dW += dy^T x)
// i < rows, j < cols, k < inner. Offsets and strides are in values, multiples of 4; so are rows and cols.

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
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>; // [inner, a_stride]
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>; // [inner, b_stride]
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>; // [rows, c_stride]

// Whether consecutive k lie side by side in memory: how a tile is best read.
const LEFT_ALONG_K = false;
const RIGHT_ALONG_K = false;

// Here inner need not be a multiple of 4: rows of a behind the last count as zeros.
fn left_row(k: u32, row: u32) -> vec4<f32> {
    let valid = min(k, params.inner - 1u);
    let value = a[(params.a_offset + valid * params.a_stride + min(row, params.rows - 4u)) / 4u];
    return select(vec4(0.0), value, k < params.inner);
}

fn left_at(row: u32, k: u32) -> mat4x4<f32> {
    return mat4x4(left_row(k, row), left_row(k + 1u, row), left_row(k + 2u, row), left_row(k + 3u, row));
}

fn right_row(k: u32, col: u32) -> vec4<f32> {
    return b[(params.b_offset + min(k, params.inner - 1u) * params.b_stride + min(col, params.cols - 4u)) / 4u];
}

fn right_at(col: u32, k: u32) -> mat4x4<f32> {
    return mat4x4(right_row(k, col), right_row(k + 1u, col), right_row(k + 2u, col), right_row(k + 3u, col));
}
