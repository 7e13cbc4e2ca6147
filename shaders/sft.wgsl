// sft: L = -1/N sum of log pi(y_t), N the response tokens of the whole optimizer step:  dlogp[t] = -1/N

struct Params {
    positions: u32,
    batch_tokens: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> dlogp: array<f32>; // [positions]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let t = linear(workgroup) * 64u + lane;
    if (t < params.positions) {
        dlogp[t] = -1.0 / f32(params.batch_tokens);
    }
}
