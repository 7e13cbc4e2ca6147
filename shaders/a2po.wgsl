// a2po: over each sequence, with l = logp, rollout = (log pi_ref, log mu, reward, A), A = R - V* of the response:
//   D = sum_t (l - log pi_ref),   delta = A - beta D,   L = 1/B sum delta^2
//   dlogp[t] = -2 beta delta / B
// B = batch_sequences counts the whole optimizer step.
// statistics[b]: D, R, A, delta;  sum kl_term(l - log pi_ref), 0, 0, 0.
// One workgroup a sequence; LANES and sum_lanes are reverse_scan.wgsl's.

struct Params {
    sequences: u32,
    first_sequence: u32,
    batch_sequences: u32,
    beta: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> starts: array<u32>; // [sequences + 1]
@group(0) @binding(1) var<storage, read> rollout: array<vec4<f32>>; // [positions, 4]
@group(0) @binding(2) var<storage, read> logp: array<f32>; // [positions]
@group(0) @binding(3) var<storage, read_write> dlogp: array<f32>; // [positions]
@group(0) @binding(4) var<storage, read_write> statistics: array<vec4<f32>>; // [any, 8]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sequence = linear(workgroup);
    if (sequence >= params.sequences) {
        return;
    }
    let start = starts[sequence];
    let end = starts[sequence + 1u];
    var own = vec4(0.0); // D, R, the KL's terms
    for (var t = start + lane; t < end; t += LANES) {
        let step = rollout[t];
        let log_ratio = logp[t] - step.x;
        own += vec4(log_ratio, step.z, kl_term(log_ratio), 0.0);
    }
    let sum = sum_lanes(own, lane);
    let advantage = rollout[start].w;
    let delta = advantage - params.beta * sum.x;
    let gradient = -2.0 * params.beta * delta / f32(params.batch_sequences);
    for (var t = start + lane; t < end; t += LANES) {
        dlogp[t] = gradient;
    }
    if (lane == 0u) {
        let row = 2u * (params.first_sequence + sequence);
        statistics[row] = vec4(sum.x, sum.y, advantage, delta);
        statistics[row + 1u] = vec4(sum.z, 0.0, 0.0, 0.0);
    }
}
