// grpo: over each sequence of n tokens, with l = logp, rollout = (log pi_ref, log pi_old, reward, A), e = clip_range:
//   ratio = exp(l - log pi_old),   x = log pi_ref - l
//   p[t] = max(-A ratio, -A clip(ratio, 1 - e, 1 + e)),   L = 1/B sum over sequences of 1/n sum_t (p + beta kl_term(x))
//   dlogp[t] = 1/(B n) (-A ratio + beta (1 - e^x)), the first term 0 where the clipped one is the larger one
// B = batch_sequences counts the whole optimizer step. Exponents are held below MAX_LOG_RATIO and MAX_KL_RATIO.
// statistics[b]: means over the tokens of p, kl_term(x), clipped p, ratio;
//                sum (l - log pi_ref), R, A, mean (l - log pi_old)^2 / 2.
// One workgroup a sequence; LANES and sum_lanes are reverse_scan.wgsl's.

const MAX_LOG_RATIO = 20.0;

struct Params {
    sequences: u32,
    first_sequence: u32,
    batch_sequences: u32,
    beta: f32,
    clip_range: f32,
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
    let count = f32(end - start);
    let scale = 1.0 / (f32(params.batch_sequences) * count);
    var losses = vec4(0.0); // p, kl_term(x), clipped p, ratio
    var others = vec4(0.0); // l - log pi_ref, R, (l - log pi_old)^2 / 2
    for (var t = start + lane; t < end; t += LANES) {
        let step = rollout[t]; // log pi_ref, log pi_old, reward, A
        let log_ratio = logp[t] - step.y;
        let ratio = exp(min(log_ratio, MAX_LOG_RATIO));
        let p = -step.w * ratio;
        let p_clipped = -step.w * clamp(ratio, 1.0 - params.clip_range, 1.0 + params.clip_range);
        let is_clipped = p_clipped > p;
        let x = step.x - logp[t];
        let of_kl = params.beta * (1.0 - exp(min(x, MAX_KL_RATIO)));
        dlogp[t] = scale * (select(p, 0.0, is_clipped) + of_kl);
        losses += vec4(select(p, p_clipped, is_clipped), kl_term(x), select(0.0, 1.0, is_clipped), ratio);
        others += vec4(-x, step.z, 0.5 * log_ratio * log_ratio, 0.0);
    }
    losses = sum_lanes(losses, lane);
    others = sum_lanes(others, lane);
    if (lane == 0u) {
        let row = 2u * (params.first_sequence + sequence);
        statistics[row] = losses / count;
        statistics[row + 1u] = vec4(others.x, others.y, rollout[start].w, others.z / count);
    }
}
