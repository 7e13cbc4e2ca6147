// scatter_rows: cached_k[index[i], :] = k[i, :] and cached_v[index[i], :] = v[i, :], for the rows whose index is not NONE; the
// others' targets are distinct. An invocation owns one value (or four) of each.

const NONE = 0xffffffffu;

struct Params {
    rows: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> index: array<u32>; // [rows]
@group(0) @binding(1) var<storage, read> k: array<element>; // [rows, cols]
@group(0) @binding(2) var<storage, read> v: array<element>; // [rows, cols]
@group(0) @binding(3) var<storage, read_write> cached_k: array<element>; // [any, cols]
@group(0) @binding(4) var<storage, read_write> cached_v: array<element>; // [any, cols]

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
        cached_k[destination * width + i % width] = k[i];
        cached_v[destination * width + i % width] = v[i];
    }
}
