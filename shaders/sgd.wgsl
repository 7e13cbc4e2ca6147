// sgd: weight[i] -= step_size * gradient[i]; then gradient[i] = 0: the next step adds to it
// An invocation owns four values.

struct Params {
    count: u32,
    step_size: f32, // learning rate * clipping factor
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> gradient: array<vec4<f32>>; // [count]
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f32>>; // [count]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = linear(workgroup) * 64u + lane;
    if (i * 4u < params.count) {
        weight[i] = fma(vec4(-params.step_size), gradient[i], weight[i]);
        gradient[i] = vec4(0.0);
    }
}
