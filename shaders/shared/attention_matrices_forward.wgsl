// attention on matrix units, of ROWS queries of one head a workgroup, which walks the keys that they see twice: the sums of
// exponentials are known before the first weight, so that sums in matrices never shrink.
const LOWEST = -1e29; // below every score
const UNSEEN = vec4(-1e30); // a score whose exponential is 0 beside it
const WEIGHT = 14u; // of a probability of 1, as a power of two

fn sum_right(place: u32) -> Right {
    let stride = COL;
    return coopLoad<Right>(&v[place], stride);
}

var<private> out_head: u32;

fn store(token: u32, quad: u32, four: vec4<f32>) {
    o[(token * params.heads + out_head) * (HEAD_DIM / 4u) + quad] = four;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let member = member_of(subgroup, lane);
    let head = workgroup.y;
    let kv_head = head / (params.heads / params.kv_heads);
    let first_query = params.first_tile * 32u + workgroup.x * ROWS;
    let query = min(first_query + member.row, params.tokens - 1u);
    let first_key = first_seen(query);
    let seen_keys = query + 1u - first_key;
    let own_score = member.row * PITCH;
    let q_place = by_token(head, first_query + member.subgroup * SIZE);
    let scale = LOG2_E * params.scale * (inverse_of(q[head]) * inverse_of(k[kv_head]));
    let start = first_seen(first_query) / STEP * STEP;
    let end = min(first_query + ROWS, params.tokens);

    var largest = LOWEST;
    var weight = 0.0; // sum of exponentials over this invocation's columns
    for (var key = start; key < end; key += STEP) {
        multiply_scores(member, q_place, part_size(params.heads), by_token(kv_head, key), part_size(params.kv_heads));
        workgroupBarrier();
        for (var i = 0u; i < COLS_OF_LANE; i += 4u) {
            let col = member.first_col + i;
            let seen = four_within(key + col, first_key, seen_keys);
            let four = select(UNSEEN, scale * four_scores(own_score + col), seen);
            let grown = max(largest, max(max(four.x, four.y), max(four.z, four.w)));
            let powers = exp2(four - grown);
            weight = weight * exp2(largest - grown) + (powers.x + powers.y + powers.z + powers.w);
            largest = grown;
        }
        workgroupBarrier();
    }
    let of_row = largest_of_row(largest);
    let sum = sum_of_row(weight * exp2(largest - of_row));
    let log_sum = of_row + log2(max(sum, 1e-30));
    if (member.first_col == 0u && first_query + member.row < params.tokens) {
        lse[query * params.heads + head] = log_sum / LOG2_E;
    }

    let shift = log_sum - f32(WEIGHT);
    for (var key = start; key < end; key += STEP) {
        multiply_scores(member, q_place, part_size(params.heads), by_token(kv_head, key), part_size(params.kv_heads));
        workgroupBarrier();
        for (var i = 0u; i < COLS_OF_LANE; i += 4u) {
            let col = member.first_col + i;
            let seen = four_within(key + col, first_key, seen_keys);
            let weights = exp2(scale * four_scores(own_score + col) - shift);
            keep_weights(member, col, select(vec4(0.0), weights, seen));
        }
        workgroupBarrier();
        multiply_weights(member, Columns(by_col(params.kv_heads, kv_head, key), part_size(params.kv_heads)));
    }
    out_head = head;
    finish_all(member, first_query, inverse_of(v[kv_head]) * inverse(127u + WEIGHT));
}
