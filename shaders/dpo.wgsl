// dpo: over each pair of sequences, the chosen one 2 p and the rejected one 2 p + 1, with rollout = (log pi_ref, ...):
//   D = sum_t (logp - log pi_ref) of each,   margin = beta (D_chosen - D_rejected)
//   L = -log sigmoid(margin),   s = beta sigmoid(-margin) / B:   dlogp = -s over the chosen one, +s over the rejected one
// B = batch_pairs counts the whole optimizer step. statistics[sequence] = D.
// One workgroup a pair.

struct Params {
    pairs: u32,
    first_sequence: u32,
    batch_pairs: u32,
    beta: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> starts: array<u32>; // [2 pairs + 1]
@group(0) @binding(1) var<storage, read> rollout: array<vec4<f32>>; // [positions, 4]
@group(0) @binding(2) var<storage, read> logp: array<f32>; // [positions]
@group(0) @binding(3) var<storage, read_write> dlogp: array<f32>; // [positions]
@group(0) @binding(4) var<storage, read_write> statistics: array<f32>; // [any]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let pair = linear(workgroup);
    if (pair >= params.pairs) {
        return;
    }
    let start = starts[2u * pair];
    let middle = starts[2u * pair + 1u];
    let end = starts[2u * pair + 2u];
    var chosen_part = 0.0;
    var rejected_part = 0.0;
    for (var t = start + lane.index; t < end; t += LANES) {
        let log_ratio = logp[t] - rollout[t].x;
        chosen_part += select(0.0, log_ratio, t < middle);
        rejected_part += select(0.0, log_ratio, t >= middle);
    }
    let chosen = row_sum(chosen_part, lane);
    let rejected = row_sum(rejected_part, lane);
    let margin = params.beta * (chosen - rejected);
    let small = exp(min(0.0, -abs(margin)));
    let sigmoid = select(1.0, small, margin > 0.0) / (1.0 + small); // of -margin
    let slope = params.beta * sigmoid / f32(params.batch_pairs);

    for (var t = start + lane.index; t < end; t += LANES) {
        dlogp[t] = select(slope, -slope, t < middle);
    }
    if (lane.index == 0u) {
        let row = params.first_sequence + 2u * pair;
        statistics[row] = chosen;
        statistics[row + 1u] = rejected;
    }
}
