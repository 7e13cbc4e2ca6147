// ppo: the whole of PPO between the model's outputs and their gradients. Over all response tokens, with l = logp,
// V = value, rollout = (log pi_old, A, R, V_old), e = clip_range, c = value_clip_range:
//   ratio = exp(l - log pi_old)
//   p[t]  = max(-A ratio, -A clip(ratio, 1 - e, 1 + e)),   L_pi = 1/N sum p
//   q[t]  = max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2),   L_V = 1/(2N) sum q
//   dlogp[t] = -A ratio / N and dvalue[t] = (V - R) / N, each 0 where the clipped term is the larger one.
// N = batch_tokens counts the whole optimizer step. The exponent is held below MAX_LOG_RATIO, so that nothing overflows.
// statistics[b]: sum p, sum q, sum (l - log pi_old)^2 / 2, number of clipped p;
//                number of clipped q, sum V, sum R, sum R^2;  sum (R - V), sum (R - V)^2, sum ratio, 0.
// One workgroup a sequence; LANES and sum_lanes are reverse_scan.wgsl's.

const MAX_LOG_RATIO = 20.0;

struct Params {
    sequences: u32,
    first_sequence: u32,
    batch_tokens: u32,
    clip_range: f32,
    value_clip_range: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> starts: array<u32>; // [sequences + 1]
@group(0) @binding(1) var<storage, read> rollout: array<vec4<f32>>; // [positions, 4]
@group(0) @binding(2) var<storage, read> logp: array<f32>; // [positions]
@group(0) @binding(3) var<storage, read> value: array<f32>; // [positions]
@group(0) @binding(4) var<storage, read_write> dlogp: array<f32>; // [positions]
@group(0) @binding(5) var<storage, read_write> dvalue: array<f32>; // [positions]
@group(0) @binding(6) var<storage, read_write> statistics: array<vec4<f32>>; // [any, 12]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sequence = linear(workgroup);
    if (sequence >= params.sequences) {
        return;
    }
    let scale = 1.0 / f32(params.batch_tokens);
    var losses = vec4(0.0); // p, q, (l - log pi_old)^2 / 2, clipped p
    var values = vec4(0.0); // clipped q, V, R, R^2
    var residuals = vec4(0.0); // R - V, (R - V)^2, ratio
    for (var t = starts[sequence] + lane; t < starts[sequence + 1u]; t += LANES) {
        let step = rollout[t]; // log pi_old, A, R, V_old
        let log_ratio = logp[t] - step.x;
        let ratio = exp(min(log_ratio, MAX_LOG_RATIO));
        let p = -step.y * ratio;
        let p_clipped = -step.y * clamp(ratio, 1.0 - params.clip_range, 1.0 + params.clip_range);
        let is_clipped = p_clipped > p;
        dlogp[t] = select(scale * p, 0.0, is_clipped);

        let v = value[t];
        let error = v - step.z;
        let error_clipped = clamp(v, step.w - params.value_clip_range, step.w + params.value_clip_range) - step.z;
        let is_value_clipped = error_clipped * error_clipped > error * error;
        dvalue[t] = select(scale * error, 0.0, is_value_clipped);

        let q = select(error * error, error_clipped * error_clipped, is_value_clipped);
        losses += vec4(select(p, p_clipped, is_clipped), q, 0.5 * log_ratio * log_ratio, select(0.0, 1.0, is_clipped));
        values += vec4(select(0.0, 1.0, is_value_clipped), v, step.z, step.z * step.z);
        residuals += vec4(-error, error * error, ratio, 0.0);
    }
    losses = sum_lanes(losses, lane);
    values = sum_lanes(values, lane);
    residuals = sum_lanes(residuals, lane);
    if (lane == 0u) {
        let row = 3u * (params.first_sequence + sequence);
        statistics[row] = losses;
        statistics[row + 1u] = values;
        statistics[row + 2u] = residuals;
    }
}
