// attention_backward_key_value on matrix units, of ROWS keys of one key head a workgroup, to the values or OF_KEYS to the keys. Its
// rows are keys, and the columns of a step queries of one of the heads. Heads are scaled each in its own way: weights are relative to
// those of the head whose operands are scaled least.
override OF_KEYS = false;
const WEIGHT = 141u; // 2^14, of a probability of 1, as an exponent that is biased as an f32's

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
    let stride = padded();
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
    for (var step = steps * layer / params.layers; step < steps * (layer + 1u) / params.layers; step += 1u) {
        let head = kv_head * group + min(params.first_member + step / steps_of_head, group - 1u);
        let first_query = first_key + step % steps_of_head * STEP;
        let others = by_token(head, first_query);
        multiply_scores(member, rows, rows_size, others, queries_size);
        if (OF_KEYS) {
            let zero = once_there(own_score);
            multiply_dots(member, rows + zero, rows_size, others + zero, queries_size);
        }
        workgroupBarrier();
        let scale = LOG2_E * params.scale * (inverse_of(q[head]) * of_keys);
        let of_gradients = power(u32(dout[head]));
        let of_values = power(u32(v[kv_head]));
        let factor = power(exponent) * power(max(127u + least, exponent_of_head(head) + 1u) - exponent_of_head(head));
        for (var col = member.first_col; col < STEP; col += LANES_OF_ROW) {
            let query = first_query + col;
            let statistics = row_statistics[min(query, params.tokens - 1u) * params.heads + head];
            let seen = query - key < seen_by;
            var weight = exp2(min(scale * scores[own_score + col] - LOG2_E * statistics.x, 0.0));
            if (OF_KEYS) {
                weight *= dots[own_score + col] - statistics.y * of_gradients * of_values; // delta as dots are scaled
            }
            keep_weight(member, col, select(0.0, factor * weight, seen));
        }
        workgroupBarrier();
        multiply_weights(member, Columns(by_col(params.heads, head, first_query), queries_size));
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
