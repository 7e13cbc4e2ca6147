// attention_backward_query on matrix units, of ROWS queries of one head a workgroup.
fn dot_left(place: u32) -> Left {
    return coopLoadT<Left>(&dout[place], COLS);
}

fn dot_right(place: u32) -> Right {
    return coopLoad<Right>(&v[place], COLS);
}

fn sum_right(place: u32) -> Right {
    let stride = COL;
    return coopLoad<Right>(&k[place], stride);
}

var<private> out_head: u32;

fn store(token: u32, quad: u32, four: vec4<f32>) {
    dq[(token * params.heads + out_head) * (HEAD_DIM / 4u) + quad] = params.scale * four;
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
    let statistics = row_statistics[query * params.heads + head];
    let log_sum = LOG2_E * statistics.x;
    let own_score = member.row * PITCH;
    let rows = by_token(head, first_query + member.subgroup * SIZE);
    let rows_size = part_size(params.heads);
    let keys_size = part_size(params.kv_heads);
    let scale = LOG2_E * params.scale * (inverse_of(q[head]) * inverse_of(k[kv_head]));
    // delta, as dots are scaled
    let delta = statistics.y * power(u32(dout[head])) * power(u32(v[kv_head]));
    var largest = 0.0;
    for (var col = lane % LANES_OF_ROW; col < COLS; col += LANES_OF_ROW) {
        largest = max(largest, abs(f32(dout[by_token(head, query) + col])));
    }
    let exponent = exponent_of(bound(subgroupMax(largest)));
    // Probabilities are scaled by it.
    let shift = log_sum - (f32(exponent) - 127.0);
    let end = min(first_query + ROWS, params.tokens);
    for (var key = first_seen(first_query) / STEP * STEP; key < end; key += STEP) {
        multiply_scores(member, rows, rows_size, by_token(kv_head, key), keys_size);
        let zero = once_there(own_score);
        multiply_dots(member, rows + zero, rows_size, by_token(kv_head, key) + zero, keys_size);
        workgroupBarrier();
        for (var i = 0u; i < COLS_OF_LANE; i += 4u) {
            let col = member.first_col + i;
            let seen = four_within(key + col, first_key, seen_keys);
            let p = exp2(scale * four_scores(own_score + col) - shift);
            let ds = p * (four_dots(own_score + col) - delta);
            keep_weights(member, col, select(vec4(0.0), ds, seen));
        }
        workgroupBarrier();
        multiply_weights(member, Columns(by_col(params.kv_heads, kv_head, key), keys_size));
    }
    out_head = head;
    let of_dots = inverse_of(dout[head]) * inverse_of(v[kv_head]);
    finish_all(member, first_query, inverse(exponent) * of_dots * inverse_of(k[kv_head]));
}
