// rms_norm_backward: in the forward pass y = n * (offset + weight), n = x * rstd, rstd = (mean(x^2) + epsilon)^(-1/2).
//   g[r, c] = dy[r, c] * (offset + weight[c])                         (= dL/dn)
//   dx[r, c] (+)= rstd[r] * (g[r, c] - n[r, c] * mean over c of g[r, c] n[r, c])
// One workgroup a row.

struct Params {
    rows: u32,
    cols: u32,
    offset: f32,
    accumulate: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> dy: array<element>; // [rows, cols]
@group(0) @binding(1) var<storage, read> x: array<element>; // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<element>; // [cols]
@group(0) @binding(3) var<storage, read> rstd: array<f32>; // [rows]
@group(0) @binding(4) var<storage, read_write> dx: array<element>; // [rows, cols]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let row = linear(workgroup);
    if (row >= params.rows) {
        return;
    }
    let width = params.cols / WIDTH;
    let start = row * width;
    let scale = rstd[row];

    var projection = 0.0;
    for (var c = lane.index; c < width; c += LANES) {
        projection += total(dy[start + c] * (params.offset + weight[c]) * x[start + c]);
    }
    let mean = row_sum(projection, lane) * scale / f32(params.cols);

    for (var c = lane.index; c < width; c += LANES) {
        let g = dy[start + c] * (params.offset + weight[c]);
        let gradient = scale * (g - x[start + c] * scale * mean);
        if (params.accumulate != 0u) {
            dx[start + c] += gradient;
        } else {
            dx[start + c] = gradient;
        }
    }
}
