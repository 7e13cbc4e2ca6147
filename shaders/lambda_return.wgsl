// lambda_return: over each sequence, from its last position,
//   G[t] = reward[t] + (1 - lambda) V[t + 1] + lambda G[t + 1],  V and G after the last position = bootstrap[b]
// and with paper_tail (eq. 3.11 as printed, lambda < 1), for n positions from t to the end,
//   G[t] = (1 - lambda^n) reward[t] + (1 - lambda) V[t + 1] + lambda G[t + 1],  G after the last position = 0
// One workgroup a sequence.

struct Params {
    sequences: u32,
    lambda: f32,
    paper_tail: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> starts: array<u32>; // [sequences + 1]
@group(0) @binding(1) var<storage, read> reward: array<f32>; // [positions]
@group(0) @binding(2) var<storage, read> value: array<f32>; // [positions]
@group(0) @binding(3) var<storage, read> bootstrap: array<f32>; // [sequences]
@group(0) @binding(4) var<storage, read_write> returns: array<f32>; // [positions]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sequence = linear(workgroup);
    if (sequence >= params.sequences) {
        return;
    }
    let start = starts[sequence];
    let end = starts[sequence + 1u];
    let final_value = bootstrap[sequence];
    let paper_tail = params.paper_tail != 0u && params.lambda < 1.0;
    var carry = select(final_value, 0.0, paper_tail); // G after the span

    for (var span = 0u; span < end - start; span += LANES * ITEMS) {
        // This lane's positions are end - 1 - skip, end - 2 - skip, ...
        let skip = span + lane * ITEMS;
        let first_power = integer_power(params.lambda, skip);
        let own = lane_map(skip, first_power, end - start, end, final_value, paper_tail);
        let scanned = scan_lanes(own, lane);
        var g = fma(scanned.y, carry, scanned.x);
        var power = first_power;
        for (var item = 0u; item < ITEMS; item += 1u) {
            if (skip + item < end - start) {
                let t = end - 1u - skip - item;
                power *= params.lambda;
                let map = step_map(t, end, final_value, select(0.0, power, paper_tail));
                g = fma(map.y, g, map.x);
                returns[t] = g;
            }
        }
        carry = fma(scanned.w, carry, scanned.z);
    }
}

fn step_map(t: u32, end: u32, final_value: f32, tail_power: f32) -> vec2<f32> {
    var next_value = final_value;
    if (t + 1u < end) {
        next_value = value[t + 1u];
    }
    return return_map(reward[t], next_value, params.lambda, tail_power);
}
