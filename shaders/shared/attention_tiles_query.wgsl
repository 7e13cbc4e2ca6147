// attention_backward_query in tiles.
// A workgroup has 32 queries of one head and walks the key tiles from its own back to the first that one sees.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = workgroup.y;
    let kv_head = head / (params.heads / params.kv_heads);
    let tile = params.first_tile + workgroup.x;
    let first_query = tile * TILE;
    let first_key_tile = first_seen(first_query) / TILE;

    var gradient: Sums;
    for (var steps = 0u; steps <= tile - first_key_tile; steps += 1u) {
        let first_key = (tile - steps) * TILE;
        var s: Scores;
        var dp: Scores;
        multiply_rows(&s, Head(Q, head), first_query, Head(K, kv_head), first_key, lane);
        multiply_rows(&dp, Head(DOUT, head), first_query, Head(V, kv_head), first_key, lane);
        for (var r = 0u; r < ROWS; r += 1u) {
            let row = first_score_row(lane) + r;
            let query = min(first_query + row, params.tokens - 1u);
            let statistics = row_statistics[query * params.heads + head];
            let keys = first_key + own_columns(lane);
            let seen = (keys >= vec4(first_seen(query))) & (keys <= vec4(query));
            let p = exp(min(params.scale * s[r] - statistics.x, vec4(0.0)));
            left[score_place(row, lane)] = select(vec4(0.0), p * (dp[r] - statistics.y), seen);
        }
        multiply_scores(&gradient, Head(K, kv_head), first_key, lane);
    }

    write_row(&gradient, 0u, first_query, head, lane);
    write_row(&gradient, 1u, first_query, head, lane);
    write_row(&gradient, 2u, first_query, head, lane);
    write_row(&gradient, 3u, first_query, head, lane);
}

fn write_row(gradient: ptr<function, Sums>, r: u32, first_query: u32, head: u32, lane: u32) {
    let query = first_query + first_row(lane) + r;
    if (query < params.tokens) {
        for (var chunk = 0u; chunk < chunks(); chunk += 1u) {
            let quad = chunk * ACROSS + lane % ACROSS;
            if (in_head(quad)) {
                dq[(query * params.heads + head) * (HEAD_DIM / 4u) + quad] = params.scale * (*gradient)[chunk][r];
            }
        }
    }
}
