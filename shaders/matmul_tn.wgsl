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

fn fill_left(first_row: u32, first_k: u32, block: u32) {
    let quad = block % QUADS;
    let row = min(first_row + 4u * quad, params.rows - 4u);
    for (var d = 0u; d < 4u; d += 1u) {
        let k = 4u * (block / QUADS) + d;
        let valid = min(first_k + k, params.inner - 1u);
        let value = a[(params.a_offset + valid * params.a_stride + row) / 4u];
        tiles[place(0u, k, quad)] = select(vec4(0.0), value, first_k + k < params.inner);
    }
}

fn fill_right(first_col: u32, first_k: u32, block: u32) {
    let quad = block % QUADS;
    let col = min(first_col + 4u * quad, params.cols - 4u);
    for (var d = 0u; d < 4u; d += 1u) {
        let k = 4u * (block / QUADS) + d;
        let valid = min(first_k + k, params.inner - 1u);
        let value = b[(params.b_offset + valid * params.b_stride + col) / 4u];
        tiles[place(1u, k, quad)] = select(vec4(0.0), value, first_k + k < params.inner);
    }
}
