// rms_norm: rstd[r] = 1 / sqrt(mean over c of x[r, c]^2 + epsilon)
//           y[r, c] = x[r, c] * rstd[r] * (offset + weight[c])
// One workgroup a row.

struct Params {
    rows: u32,
    cols: u32,
    epsilon: f32,
    offset: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<element>; // [rows, cols]
@group(0) @binding(1) var<storage, read> weight: array<element>; // [cols]
@group(0) @binding(2) var<storage, read_write> y: array<element>; // [rows, cols]
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>; // [rows]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = linear(workgroup);
    if (row >= params.rows) {
        return;
    }
    let width = params.cols / WIDTH;
    let start = row * width;

    var squares = 0.0;
    for (var c = lane; c < width; c += LANES) {
        squares += total(x[start + c] * x[start + c]);
    }
    let scale = 1.0 / sqrt(row_sum(squares, lane) / f32(params.cols) + params.epsilon);

    for (var c = lane; c < width; c += LANES) {
        y[start + c] = x[start + c] * scale * (params.offset + weight[c]);
    }
    if (lane == 0u) {
        rstd[row] = scale;
    }
}
