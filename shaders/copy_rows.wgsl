// copy_rows: y[first_y + i, :] = x[first_x + i, :]
// An invocation owns four values.

struct Params {
    rows: u32,
    cols: u32,
    first_x: u32,
    first_y: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [any, cols]
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>; // [any, cols]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.cols / 4u;
    let i = linear(workgroup) * 64u + lane;
    if (i < params.rows * width) {
        y[params.first_y * width + i] = x[params.first_x * width + i];
    }
}
