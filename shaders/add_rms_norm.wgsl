// add_rms_norm: h[r, c] = x[r, c] + delta[r, c], or x[r, c] where add is 0
//               rstd[r] = 1 / sqrt(mean over c of h[r, c]^2 + epsilon)
//               y[r, c] = h[r, c] * rstd[r] * (offset + weight[c])
// One workgroup a row.

struct Params {
    rows: u32,
    cols: u32,
    epsilon: f32,
    offset: f32,
    add: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<element>; // [rows, cols]
@group(0) @binding(1) var<storage, read> delta: array<element>; // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<element>; // [cols]
@group(0) @binding(3) var<storage, read_write> h: array<element>; // [rows, cols]
@group(0) @binding(4) var<storage, read_write> y: array<element>; // [rows, cols]
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>; // [rows]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let row = linear(workgroup);
    if (row >= params.rows) {
        return;
    }
    let width = params.cols / WIDTH;
    let start = row * width;

    var squares = 0.0;
    for (var c = lane.index; c < width; c += LANES) {
        var sum = x[start + c];
        if (params.add != 0u) {
            sum += delta[start + c];
        }
        h[start + c] = sum;
        squares += total(sum * sum);
    }
    let scale = 1.0 / sqrt(row_sum(squares, lane) / f32(params.cols) + params.epsilon);

    // Every invocation reads back only what it wrote itself.
    for (var c = lane.index; c < width; c += LANES) {
        y[start + c] = h[start + c] * scale * (params.offset + weight[c]);
    }
    if (lane.index == 0u) {
        rstd[row] = scale;
    }
}
