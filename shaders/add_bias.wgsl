// add_bias: y_p[r, c] += bias_p[c], of up to three p with as many rows
// A part without columns is not there. An invocation owns one value (or four).

struct Params {
    rows: u32,
    cols0: u32,
    cols1: u32,
    cols2: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> bias0: array<element>; // [cols0]
@group(0) @binding(1) var<storage, read> bias1: array<element>; // [cols1]
@group(0) @binding(2) var<storage, read> bias2: array<element>; // [cols2]
@group(0) @binding(3) var<storage, read_write> y0: array<element>; // [rows, cols0]
@group(0) @binding(4) var<storage, read_write> y1: array<element>; // [rows, cols1]
@group(0) @binding(5) var<storage, read_write> y2: array<element>; // [rows, cols2]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let widths = vec3(params.cols0, params.cols1, params.cols2) / WIDTH;
    var i = linear(workgroup) * 64u + lane; // over the parts, one after the other
    if (i < params.rows * widths.x) {
        y0[i] += bias0[i % widths.x];
        return;
    }
    i -= params.rows * widths.x;
    if (i < params.rows * widths.y) {
        y1[i] += bias1[i % widths.y];
        return;
    }
    i -= params.rows * widths.y;
    if (i < params.rows * widths.z) {
        y2[i] += bias2[i % widths.z];
    }
}
