// gated_mlp: act[i] = f(gate[i]) * up[i], f = SiLU or tanh-GELU (shared/gate.wgsl)
// An invocation owns four values.

struct Params {
    count: u32,
    activation: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gate: array<vec4<f32>>; // [count]
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>; // [count]
@group(0) @binding(2) var<storage, read_write> act: array<vec4<f32>>; // [count]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = linear(workgroup) * 64u + lane;
    if (i * 4u >= params.count) {
        return;
    }
    let x = gate[i];
    act[i] = x * sigmoid(gate_z(x, params.activation)) * up[i];
}
