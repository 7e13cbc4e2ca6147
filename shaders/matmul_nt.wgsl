// matmul_nt: c[i, j] (+)= sum over k of a[i, k] * b[j, k]          (a layer's output: y = x W^T)
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
@group(0) @binding(1) var<storage, read> b: array<weight4>; // [cols, b_stride]
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>; // [rows, c_stride]

// Rows behind the last read the last; their sums are not stored.
fn left_at(row: u32, k: u32) -> vec4<f32> {
    return a[(params.a_offset + min(row, params.rows - 1u) * params.a_stride + k) / 4u];
}

fn right_at(col: u32, k: u32) -> vec4<f32> {
    return unpack(b[(params.b_offset + min(col, params.cols - 1u) * params.b_stride + k) / 4u]);
}

fn fill_left(first_row: u32, first_k: u32, block: u32) {
    let k = 4u * (block % 4u);
    let quad = block / 4u;
    let row = first_row + 4u * quad;
    if (first_k + k < params.inner) {
        store_transposed(0u, k, quad, left_at(row, first_k + k), left_at(row + 1u, first_k + k),
            left_at(row + 2u, first_k + k), left_at(row + 3u, first_k + k));
    } else {
        store_transposed(0u, k, quad, vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
    }
}

fn fill_right(first_col: u32, first_k: u32, block: u32) {
    let k = 4u * (block % 4u);
    let quad = block / 4u;
    let col = first_col + 4u * quad;
    if (first_k + k < params.inner) {
        store_transposed(1u, k, quad, right_at(col, first_k + k), right_at(col + 1u, first_k + k),
            right_at(col + 2u, first_k + k), right_at(col + 3u, first_k + k));
    } else {
        store_transposed(1u, k, quad, vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
    }
}
