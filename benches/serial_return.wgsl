// serial_return: what lambda_return computes with its usual tail, one invocation a sequence: what the scan is held
// against. A call takes the positions skip .. skip + SPAN from each sequence's end; llvmpipe ends loops after 65535 rounds.

const SPAN = 32768u;

struct Params {
    sequences: u32,
    lambda: f32,
    skip: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> starts: array<u32>; // [sequences + 1]
@group(0) @binding(1) var<storage, read> reward: array<f32>; // [positions]
@group(0) @binding(2) var<storage, read> value: array<f32>; // [positions]
@group(0) @binding(3) var<storage, read> bootstrap: array<f32>; // [sequences]
@group(0) @binding(4) var<storage, read_write> returns: array<f32>; // [positions]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sequence = linear(workgroup) * 64u + lane;
    if (sequence >= params.sequences) {
        return;
    }
    let start = starts[sequence];
    let end = max(starts[sequence + 1u], start + params.skip) - params.skip;
    var next_return = bootstrap[sequence];
    var next_value = next_return;
    if (params.skip > 0u && end > start) {
        next_return = returns[end];
        next_value = value[end];
    }
    for (var t = end; t > start && t + SPAN > end; t -= 1u) {
        next_return = reward[t - 1u] + fma(params.lambda, next_return, (1.0 - params.lambda) * next_value);
        next_value = value[t - 1u];
        returns[t - 1u] = next_return;
    }
}
