// kto: over each sequence, with rollout = (log pi_ref, log mu, reward, ...), right where its last reward is above 0.5:
//   D = sum_t (logp - log pi_ref),   u = beta (D - z)
//   right: L = w_d (1 - sigmoid(u)),  dlogp = -w_d beta sigmoid(u) sigmoid(-u) / B
//   wrong: L = w_u (1 - sigmoid(-u)), dlogp = +w_u beta sigmoid(u) sigmoid(-u) / B
// z is a constant; B = batch_sequences counts the whole optimizer step. statistics[b]: D, 1 where it is right.
// One workgroup a sequence.

struct Params {
    sequences: u32,
    first_sequence: u32,
    batch_sequences: u32,
    beta: f32,
    z: f32,
    desirable_weight: f32,
    undesirable_weight: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> starts: array<u32>; // [sequences + 1]
@group(0) @binding(1) var<storage, read> rollout: array<vec4<f32>>; // [positions, 4]
@group(0) @binding(2) var<storage, read> logp: array<f32>; // [positions]
@group(0) @binding(3) var<storage, read_write> dlogp: array<f32>; // [positions]
@group(0) @binding(4) var<storage, read_write> statistics: array<vec2<f32>>; // [any, 2]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let sequence = linear(workgroup);
    if (sequence >= params.sequences) {
        return;
    }
    let start = starts[sequence];
    let end = starts[sequence + 1u];
    var part = 0.0;
    for (var t = start + lane.index; t < end; t += LANES) {
        part += logp[t] - rollout[t].x;
    }
    let log_ratio = row_sum(part, lane);
    let is_right = rollout[end - 1u].z > 0.5;
    let small = exp(min(0.0, -abs(params.beta * (log_ratio - params.z))));
    let slope = params.beta * small / ((1.0 + small) * (1.0 + small) * f32(params.batch_sequences));
    let gradient = select(params.undesirable_weight * slope, -params.desirable_weight * slope, is_right);

    for (var t = start + lane.index; t < end; t += LANES) {
        dlogp[t] = gradient;
    }
    if (lane.index == 0u) {
        statistics[params.first_sequence + sequence] = vec2(log_ratio, select(0.0, 1.0, is_right));
    }
}
