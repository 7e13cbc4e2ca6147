// scale: x[i] *= factor
// An invocation owns four values.

struct Params {
    count: u32,
    factor: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>; // [count]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = linear(workgroup) * 64u + lane;
    if (i * 4u < params.count) {
        x[i] *= params.factor;
    }
}
