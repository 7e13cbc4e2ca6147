// dqo: the whole of DQO between the model's outputs and their gradients. Over each sequence of n actions, with
// l = logp, rollout = (log pi_ref, log mu, reward, goes on):
//   k[t] = beta (log pi_ref - l),   G = lambda-return of reward + k             (lambda_return.wgsl, eq. 3.11)
//   w    = exp(min(1, sum_t (l - log mu)))                                      (eq. 3.14)
//   e[t] = beta (l - log pi_ref) - (reward + N - V[t]),  N = G[t + 1], or V[t + 1] with td_target  (eq. 3.13, 3.6)
//   f[t] = G[t] - V[t]                                                          (eq. 3.12)
//   dlogp[t] = 2 w beta e[t] / B,   dvalue[t] = -2 w f[t] / B,   divided by n with mean_reduction
// V after the last action is bootstrap[b] where the response goes on there (it was cut off), else 0.
// B = batch_sequences counts the whole optimizer step. Without policy_is (value_is) the policy's (value's) w is 1.
// statistics[b]: w, sum (l - log mu), sum (l - log pi_ref), sum reward;
//                sum e^2, sum f^2, sum f, sum V;  sum G, sum G^2, n, sum kl_term(l - log pi_ref).
// One workgroup a sequence.

struct Params {
    sequences: u32,
    first_sequence: u32,
    batch_sequences: u32,
    beta: f32,
    lambda: f32,
    policy_is: u32,
    value_is: u32,
    paper_tail: u32,
    td_target: u32,
    mean_reduction: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> starts: array<u32>; // [sequences + 1]
@group(0) @binding(1) var<storage, read> rollout: array<vec4<f32>>; // [positions, 4]
@group(0) @binding(2) var<storage, read> bootstrap: array<f32>; // [sequences]
@group(0) @binding(3) var<storage, read> logp: array<f32>; // [positions]
@group(0) @binding(4) var<storage, read> value: array<f32>; // [positions]
@group(0) @binding(5) var<storage, read_write> dlogp: array<f32>; // [positions]
@group(0) @binding(6) var<storage, read_write> dvalue: array<f32>; // [positions]
@group(0) @binding(7) var<storage, read_write> statistics: array<vec4<f32>>; // [any, 12]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sequence = linear(workgroup);
    if (sequence >= params.sequences) {
        return;
    }
    let start = starts[sequence];
    let end = starts[sequence + 1u];
    let length = end - start;
    let final_value = bootstrap[sequence] * rollout[end - 1u].w;
    let paper_tail = params.paper_tail != 0u && params.lambda < 1.0;

    // w, and what only sums up
    var ratios = vec4(0.0);
    for (var t = start + lane; t < end; t += LANES) {
        let step = rollout[t];
        ratios += vec4(logp[t] - step.y, logp[t] - step.x, step.z, value[t]);
    }
    ratios = sum_lanes(ratios, lane);
    let w = exp(min(1.0, ratios.x));
    let scale = 2.0 / (f32(params.batch_sequences) * select(1.0, f32(length), params.mean_reduction != 0u));
    let policy_scale = scale * params.beta * select(1.0, w, params.policy_is != 0u);
    let value_scale = scale * select(1.0, w, params.value_is != 0u);

    var residuals = vec4(0.0); // e^2, f^2, f, kl_term
    var returns = vec4(0.0); // G, G^2
    var carry = select(final_value, 0.0, paper_tail); // G after the span
    for (var span = 0u; span < length; span += LANES * ITEMS) {
        // This lane's positions are end - 1 - skip, end - 2 - skip, ...
        let skip = span + lane * ITEMS;
        let first_power = integer_power(params.lambda, skip);
        let own = lane_map(skip, first_power, length, end, final_value, paper_tail);
        let scanned = scan_lanes(own, lane);
        var g_next = fma(scanned.y, carry, scanned.x);
        var power = first_power;
        for (var item = 0u; item < ITEMS; item += 1u) {
            if (skip + item < length) {
                let t = end - 1u - skip - item;
                power *= params.lambda;
                let map = step_map(t, end, final_value, select(0.0, power, paper_tail));
                let g = fma(map.y, g_next, map.x);
                let step = rollout[t];
                let target_next = select(g_next, value_after(t, end, final_value), params.td_target != 0u);
                let e = params.beta * (logp[t] - step.x) - (step.z + target_next - value[t]);
                let f = g - value[t];
                dlogp[t] = policy_scale * e;
                dvalue[t] = -value_scale * f;
                residuals += vec4(e * e, f * f, f, kl_term(logp[t] - step.x));
                returns += vec4(g, g * g, 0.0, 0.0);
                g_next = g;
            }
        }
        carry = fma(scanned.w, carry, scanned.z);
    }

    residuals = sum_lanes(residuals, lane);
    returns = sum_lanes(returns, lane);
    if (lane == 0u) {
        let row = 3u * (params.first_sequence + sequence);
        statistics[row] = vec4(w, ratios.xyz);
        statistics[row + 1u] = vec4(residuals.xyz, ratios.w);
        statistics[row + 2u] = vec4(returns.xy, f32(length), residuals.w);
    }
}

fn value_after(t: u32, end: u32, final_value: f32) -> f32 {
    if (t + 1u < end) {
        return value[t + 1u];
    }
    return final_value;
}

fn step_map(t: u32, end: u32, final_value: f32, tail_power: f32) -> vec2<f32> {
    let step = rollout[t];
    let reward = step.z + params.beta * (step.x - logp[t]);
    return return_map(reward, value_after(t, end, final_value), params.lambda, tail_power);
}
