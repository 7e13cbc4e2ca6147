// scatter_rows: y[index[i], :] = x[i, :], for the rows whose index is not NONE; the others' targets are distinct.
// An invocation owns one value (or four).

const NONE = 0xffffffffu;

struct Params {
    rows: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> index: array<u32>; // [rows]
@group(0) @binding(1) var<storage, read> x: array<element>; // [rows, cols]
@group(0) @binding(2) var<storage, read_write> y: array<element>; // [any, cols]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.cols / WIDTH;
    let i = linear(workgroup) * 64u + lane;
    let row = i / width;
    if (row >= params.rows) {
        return;
    }
    let destination = index[row];
    if (destination != NONE) {
        y[destination * width + i % width] = x[i];
    }
}
