// add_bias: y[r, c] += bias[c]
// An invocation owns one value (or four).

struct Params {
    rows: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> bias: array<element>; // [cols]
@group(0) @binding(1) var<storage, read_write> y: array<element>; // [rows, cols]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.cols / WIDTH;
    let i = linear(workgroup) * 64u + lane;
    if (i < params.rows * width) {
        y[i] += bias[i % width];
    }
}
