// gated_mlp_backward: in the forward pass act = f(gate) up, f(x) = x s(x), s(x) = sigmoid(z(x)) (shared/gate.wgsl).
//   dgate[i] = dact[i] up[i] f'(gate[i]),  f' = s + x s (1 - s) z'
//   dup[i]   = dact[i] f(gate[i])
//   act[i]   = f(gate[i]) up[i]                       (again: it was not kept, and the weight gradient needs it)
// Each stands in the place of its like. An invocation owns four values.

struct Params {
    count: u32,
    activation: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> gate: array<vec4<f32>>; // [count], then dgate
@group(0) @binding(1) var<storage, read_write> up: array<vec4<f32>>; // [count], then dup
@group(0) @binding(2) var<storage, read_write> dact: array<vec4<f32>>; // [count], then act

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = linear(workgroup) * 64u + lane;
    if (i * 4u >= params.count) {
        return;
    }
    let x = gate[i];
    let z = gate_z(x, params.activation);
    let s = sigmoid(z);
    let slope = s + x * s * sigmoid(-z) * gate_dz(x, params.activation);
    let gradient = dact[i];
    gate[i] = gradient * up[i] * slope;
    dact[i] = x * s * up[i];
    up[i] = gradient * x * s;
}
