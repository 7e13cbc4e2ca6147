// attention_backward_key_value on matrix units, of ROWS keys of one key head a workgroup, to the values or OF_KEYS to the keys. Its
// rows are keys, and the columns of a step queries of one of the heads. Heads are scaled each in its own way: weights are relative to
// those of the head whose operands are scaled least.
override OF_KEYS = false;
const WEIGHT = 141u; // 2^14, of a probability of 1, as an exponent that is biased as an f32's

// Of the queries of a step, as weights need them: logarithms of sums to base 2, less the power that probabilities are scaled by; and
// deltas, as dots are scaled.
var<workgroup> log_sums: array<f32, STEP>;
var<workgroup> deltas: array<f32, STEP>;

fn score_left(place: u32) -> Left {
    return coopLoadT<Left>(&k[place], COLS);
}

fn score_right(place: u32) -> Right {
    return coopLoad<Right>(&q[place], COLS);
}

fn dot_left(place: u32) -> Left {
    return coopLoadT<Left>(&v[place], COLS);
}

fn dot_right(place: u32) -> Right {
    return coopLoad<Right>(&dout[place], COLS);
}

fn sum_right(place: u32) -> Right {
    let stride = COL;
    if (OF_KEYS) {
        return coopLoad<Right>(&q[place], stride);
    }
    return coopLoad<Right>(&dout[place], stride);
}

// The row of the gradients that a workgroup's first token has.
var<private> out_row: u32;

fn store(token: u32, quad: u32, four: vec4<f32>) {
    let place = (out_row + token * params.kv_heads) * (HEAD_DIM / 4u) + quad;
    if (OF_KEYS) {
        dk[place] = params.scale * four;
    } else {
        dv[place] = four;
    }
}

// By what power of two a head's products are scaled that are summed up, but for that of the values.
fn exponent_of_head(head: u32) -> u32 {
    return u32(dout[head]) + select(0u, u32(q[head]), OF_KEYS);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let member = member_of(subgroup, lane);
    let kv_head = workgroup.y;
    let group = params.heads / params.kv_heads;
    let first_key = params.first_tile * 32u + workgroup.x * ROWS;
    let key = min(first_key + member.row, params.tokens - 1u);
    let seen_by = min(bounds[key].y - key, params.window); // queries, from the key on
    let last_key = min(first_key + ROWS, params.tokens) - 1u;
    let end = min(last_key + min(bounds[last_key].y - last_key, params.window), params.tokens); // of the queries that see a key
    let steps_of_head = (end - first_key + STEP - 1u) / STEP;
    let own_score = member.row * PITCH;
    let rows = by_token(kv_head, first_key + member.subgroup * SIZE);
    let rows_size = part_size(params.kv_heads);
    let queries_size = part_size(params.heads);
    let of_keys = inverse_of(k[kv_head]);
    let exponent = select(WEIGHT, exponent_of(bound(32768.0)), OF_KEYS);
    var least = exponent_of_head(kv_head * group);
    for (var head = kv_head * group; head < (kv_head + 1u) * group; head += 1u) {
        least = min(least, exponent_of_head(head));
    }

    let layer = workgroup.z;
    let steps = params.members * steps_of_head;
    let first_step = steps * layer / params.layers;
    var member_head = first_step / steps_of_head;
    var step_of_head = first_step % steps_of_head;
    for (var step = first_step; step < steps * (layer + 1u) / params.layers; step += 1u) {
        let head = kv_head * group + min(params.first_member + member_head, group - 1u);
        let first_query = first_key + step_of_head * STEP;
        // Probabilities are scaled by the power of two.
        let of_head = max(127u + least, exponent_of_head(head) + 1u) - exponent_of_head(head);
        let factor = f32(exponent) + f32(of_head) - 254.0;
        let own = member.subgroup * SUBGROUP + lane;
        if (own < STEP) {
            let statistics = row_statistics[min(first_query + own, params.tokens - 1u) * params.heads + head];
            log_sums[own] = LOG2_E * statistics.x - factor;
            deltas[own] = statistics.y * power(u32(dout[head])) * power(u32(v[kv_head]));
        }
        let others = by_token(head, first_query);
        multiply_scores(member, rows, rows_size, others, queries_size);
        if (OF_KEYS) {
            let zero = once_there(own_score);
            multiply_dots(member, rows + zero, rows_size, others + zero, queries_size);
        }
        workgroupBarrier();
        let scale = LOG2_E * params.scale * (inverse_of(q[head]) * of_keys);
        for (var i = 0u; i < COLS_OF_LANE; i += 4u) {
            let col = member.first_col + i;
            let seen = four_within(first_query + col, key, seen_by);
            let log_sum = vec4(log_sums[col], log_sums[col + 1u], log_sums[col + 2u], log_sums[col + 3u]);
            var weight = exp2(scale * four_scores(own_score + col) - log_sum);
            if (OF_KEYS) {
                let delta = vec4(deltas[col], deltas[col + 1u], deltas[col + 2u], deltas[col + 3u]);
                weight *= four_dots(own_score + col) - delta;
            }
            keep_weights(member, col, select(vec4(0.0), weight, seen));
        }
        workgroupBarrier();
        multiply_weights(member, Columns(by_col(params.heads, head, first_query), queries_size));
        step_of_head += 1u;
        if (step_of_head == steps_of_head) {
            step_of_head = 0u;
            member_head += 1u;
        }
    }
    out_row = layer * params.tokens * params.kv_heads + kv_head;
    var of_sums = inverse(exponent);
    if (OF_KEYS) {
        // In two steps, as the power of two may be no f32's.
        of_sums *= inverse(least / 2u) * inverse_of(v[kv_head]) * inverse(least - least / 2u);
    } else {
        of_sums *= inverse(least);
    }
    finish_all(member, first_key, of_sums);
}
