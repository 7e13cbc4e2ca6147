// matmul_nn: c[i, j] (+)= sum over k of a[i, k] * b[k, j]          (a layer's input gradient: dx = dy W)
// i < rows, j < cols, k < inner. Offsets and strides are in values, multiples of 4; so are cols and inner.

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

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>; // [rows, a_stride]
@group(0) @binding(1) var<storage, read> b: array<weight4>; // [inner, b_stride]
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>; // [rows, c_stride]

// Whether consecutive k lie side by side in memory: how a tile is best read.
const LEFT_ALONG_K = true;
const RIGHT_ALONG_K = false;

// Rows behind the last are read as the last; their sums are not stored.
fn left_row(row: u32, k: u32) -> vec4<f32> {
    return a[(params.a_offset + min(row, params.rows - 1u) * params.a_stride + k) / 4u];
}

fn left_at(row: u32, k: u32) -> mat4x4<f32> {
    return transpose(mat4x4(left_row(row, k), left_row(row + 1u, k), left_row(row + 2u, k), left_row(row + 3u, k)));
}

fn right_row(k: u32, col: u32) -> vec4<f32> {
    return unpack(b[(params.b_offset + k * params.b_stride + min(col, params.cols - 4u)) / 4u]);
}

fn right_at(col: u32, k: u32) -> mat4x4<f32> {
    return mat4x4(right_row(k, col), right_row(k + 1u, col), right_row(k + 2u, col), right_row(k + 3u, col));
}
