// rms_norm_linear: y_p[i, j] = sum over k of n[i, k] * w_p[j, k], for up to three matrices w_p with the same x
//                  n[i, k] = x[i, k] / sqrt(mean over k of x[i, k]^2 + epsilon) * (offset + norm[k])
// i < rows, j < cols_p, k < inner; all are multiples of 4 but the rows. A part without columns is not there. linear_parts.wgsl says
// where the operands lie; norm_rows.wgsl computes.

struct Params {
    first_row: u32,
    rows: u32,
    inner: u32,
    cols0: u32,
    cols1: u32,
    cols2: u32,
    epsilon: f32,
    offset: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, inner]
@group(0) @binding(1) var<storage, read> norm: array<vec4<f32>>; // [inner]
@group(0) @binding(2) var<storage, read> w0: array<stored>; // [cols0, inner]
@group(0) @binding(3) var<storage, read> w1: array<stored>; // [cols1, inner]
@group(0) @binding(4) var<storage, read> w2: array<stored>; // [cols2, inner]
@group(0) @binding(5) var<storage, read_write> y0: array<vec4<f32>>; // [rows, cols0]
@group(0) @binding(6) var<storage, read_write> y1: array<vec4<f32>>; // [rows, cols1]
@group(0) @binding(7) var<storage, read_write> y2: array<vec4<f32>>; // [rows, cols2]

// The columns of a workgroup: each half of it has its own.
const COLS = 8u;

fn column_of(corner: u32, side: u32) -> u32 {
    return corner + 4u * side;
}

// A row's sums of each half's columns; `col` is that of this one.
fn finish(row: u32, col: u32, side: u32, first: vec4<f32>, second: vec4<f32>) {
    store(row, col, 0u, select(second, first, side == 0u));
}
