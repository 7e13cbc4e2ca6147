// copy: y = x, four values an invocation: the adapter's memory bandwidth as a kernel gets it.

struct Params {
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = linear(workgroup) * 64u + lane;
    if (i * 4u < params.count) {
        y[i] = x[i];
    }
}
