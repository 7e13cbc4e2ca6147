// dro: over each sequence, with l = logp, rollout = (log pi_ref, log mu, reward, goes on), V_1 the value of its first state:
//   D = sum_t (l - log pi_ref),   R = sum_t reward, and V after the last action where the response goes on
//   delta = R - V_1 - beta D
//   dlogp[t] = -2 beta delta / B,   dvalue of the first state = -2 delta / B, of the others 0
// It is dqo with the whole response as one action. B = batch_sequences counts the whole optimizer step.
// statistics[b]: D, R without that V, V_1, delta;  sum kl_term(l - log pi_ref), 0, 0, 0.
// One workgroup a sequence.

struct Params {
    sequences: u32,
    first_sequence: u32,
    batch_sequences: u32,
    beta: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> starts: array<u32>; // [sequences + 1]
@group(0) @binding(1) var<storage, read> rollout: array<vec4<f32>>; // [positions, 4]
@group(0) @binding(2) var<storage, read> bootstrap: array<f32>; // [sequences]
@group(0) @binding(3) var<storage, read> logp: array<f32>; // [positions]
@group(0) @binding(4) var<storage, read> value: array<f32>; // [positions]
@group(0) @binding(5) var<storage, read_write> dlogp: array<f32>; // [positions]
@group(0) @binding(6) var<storage, read_write> dvalue: array<f32>; // [positions]
@group(0) @binding(7) var<storage, read_write> statistics: array<vec4<f32>>; // [any, 8]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let sequence = linear(workgroup);
    if (sequence >= params.sequences) {
        return;
    }
    let start = starts[sequence];
    let end = starts[sequence + 1u];
    var ratio_part = 0.0;
    var reward_part = 0.0;
    var kl_part = 0.0;
    for (var t = start + lane.index; t < end; t += LANES) {
        let step = rollout[t];
        ratio_part += logp[t] - step.x;
        reward_part += step.z;
        kl_part += kl_term(logp[t] - step.x);
    }
    let log_ratio = row_sum(ratio_part, lane);
    let reward = row_sum(reward_part, lane);
    let kl = row_sum(kl_part, lane);
    let first_value = value[start];
    let final_value = bootstrap[sequence] * rollout[end - 1u].w;
    let delta = reward + final_value - first_value - params.beta * log_ratio;
    let gradient = -2.0 * delta / f32(params.batch_sequences);

    for (var t = start + lane.index; t < end; t += LANES) {
        dlogp[t] = params.beta * gradient;
        dvalue[t] = select(0.0, gradient, t == start);
    }
    if (lane.index == 0u) {
        let row = 2u * (params.first_sequence + sequence);
        statistics[row] = vec4(log_ratio, reward, first_value, delta);
        statistics[row + 1u] = vec4(kl, 0.0, 0.0, 0.0);
    }
}
