// soft_cap: y[i] = cap * tanh(x[i] / cap)

struct Params {
    count: u32,
    cap: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [count]
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [count]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = linear(workgroup) * 64u + lane;
    if (i < params.count) {
        y[i] = params.cap * tanh(clamp(x[i] / params.cap, -15.0, 15.0));
    }
}
