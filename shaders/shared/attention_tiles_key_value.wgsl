// attention_backward_key_value in tiles.
// A workgroup has 32 keys of one key head and walks `members` of its heads, and the query tiles from its own to the
// last that sees one; the first call of several overwrites, the next ones add. APART, a workgroup does this for one gradient:
// half of the sums in registers and twice the workgroups, for a fourth more of work and the same bits. Where there are few
// workgroups, `layers` of them share the heads and query tiles; a layer of the gradients has what its workgroup summed up.
// Here the tile's rows are keys and its columns queries.
override APART = false;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let kv_head = workgroup.y;
    let group = params.heads / params.kv_heads;
    let tile = params.first_tile + workgroup.x;
    let first_key = tile * TILE;
    let last_key = min(first_key + TILE, params.tokens) - 1u;
    let end = last_key + min(bounds[last_key].y - last_key, params.window); // of the queries that see one of the keys
    let tiles = (end - 1u) / TILE + 1u - tile; // query tiles from this one to the last of them

    let layer = workgroup.z % params.layers;
    let own_gradient = params.first_gradient + workgroup.z / params.layers;
    let of_values = !APART || own_gradient == 0u;
    let of_keys = !APART || own_gradient == 1u;
    var gradient: Sums; // to the values, or the only one
    var key_gradient: Sums;
    let steps = params.members * tiles;
    for (var step = steps * layer / params.layers; step < steps * (layer + 1u) / params.layers; step += 1u) {
        // Bounded by what the call has checked, whatever stands in bounds.
        let head = kv_head * group + min(params.first_member + step / tiles, group - 1u);
        let first_query = (tile + step % tiles) * TILE;
        var s: Scores;
        var dp: Scores;
        multiply_rows(&s, Head(K, kv_head), first_key, Head(Q, head), first_query, lane);
        if (of_keys) {
            multiply_rows(&dp, Head(V, kv_head), first_key, Head(DOUT, head), first_query, lane);
        }
        // p and ds: a column is a query, a row a key
        for (var c = 0u; c < 4u; c += 1u) {
            let query = first_query + own_columns(lane)[c];
            let valid = min(query, params.tokens - 1u);
            let statistics = row_statistics[valid * params.heads + head];
            let start = first_seen(valid);
            for (var r = 0u; r < ROWS; r += 1u) {
                let key = first_key + first_score_row(lane) + r;
                let seen = query < params.tokens && key >= start && key <= query;
                let p = exp(min(params.scale * s[r][c] - statistics.x, 0.0));
                s[r][c] = select(0.0, p, seen);
                dp[r][c] = s[r][c] * (dp[r][c] - statistics.y);
            }
        }
        if (of_values) {
            share(s, lane);
            multiply_scores(&gradient, Head(DOUT, head), first_query, lane);
        }
        if (of_keys) {
            share(dp, lane);
            if (APART) {
                multiply_scores(&gradient, Head(Q, head), first_query, lane);
            } else {
                multiply_scores(&key_gradient, Head(Q, head), first_query, lane);
            }
        }
    }

    if (of_values) {
        write(&gradient, false, layer * params.tokens, first_key, kv_head, lane);
    } else {
        write(&gradient, true, layer * params.tokens, first_key, kv_head, lane);
    }
    if (!APART) {
        write(&key_gradient, true, layer * params.tokens, first_key, kv_head, lane);
    }
}

// Scores into the left tile.
fn share(scores: Scores, lane: u32) {
    for (var r = 0u; r < ROWS; r += 1u) {
        left[score_place(first_score_row(lane) + r, lane)] = scores[r];
    }
}

fn write(gradient: ptr<function, Sums>, of_keys: bool, first_token: u32, first_key: u32, kv_head: u32, lane: u32) {
    write_row(gradient, of_keys, 0u, first_token, first_key, kv_head, lane);
    write_row(gradient, of_keys, 1u, first_token, first_key, kv_head, lane);
    write_row(gradient, of_keys, 2u, first_token, first_key, kv_head, lane);
    write_row(gradient, of_keys, 3u, first_token, first_key, kv_head, lane);
}

fn write_row(gradient: ptr<function, Sums>, of_keys: bool, r: u32, first_token: u32, first_key: u32, kv_head: u32, lane: u32) {
    let key = first_key + first_row(lane) + r;
    if (key < params.tokens) {
        for (var chunk = 0u; chunk < chunks(); chunk += 1u) {
            let quad = chunk * ACROSS + lane % ACROSS;
            if (in_head(quad)) {
                let group = ((first_token + key) * params.kv_heads + kv_head) * (HEAD_DIM / 4u) + quad;
                if (of_keys) {
                    dk[group] = fma(vec4(params.scale), (*gradient)[chunk][r], to_add_to(dk[group]));
                } else {
                    dv[group] = to_add_to(dv[group]) + (*gradient)[chunk][r];
                }
            }
        }
    }
}

// What a gradient is added to: what the calls before have written, if any.
fn to_add_to(written: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), written, params.first_member > 0u);
}
