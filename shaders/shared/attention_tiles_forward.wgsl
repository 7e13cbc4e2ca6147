// attention in tiles.
// A workgroup has 32 queries of one head and walks the key tiles from its own back to the first that one sees: in its
// own every query meets itself, so the running maximum is a real score from there on and needs no infinity.
const LOWEST = -1e30; // below every score

// What the invocations of a row of scores tell those of its row of results: how its results shrink, and in the end its
// sum.
var<workgroup> factor: array<f32, TILE>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = lane % QUADS;
    let head = workgroup.y;
    let kv_head = head / (params.heads / params.kv_heads);
    let tile = params.first_tile + workgroup.x;
    let first_query = tile * TILE;
    let first_key_tile = first_seen(first_query) / TILE;

    var largest: array<f32, ROWS>;
    var weight: array<f32, ROWS>; // sum of exponentials over this invocation's columns
    for (var r = 0u; r < ROWS; r += 1u) {
        largest[r] = LOWEST;
    }
    var output: Sums;

    for (var steps = 0u; steps <= tile - first_key_tile; steps += 1u) {
        let first_key = (tile - steps) * TILE;
        var s: Scores;
        multiply_rows(&s, Head(Q, head), first_query, Head(K, kv_head), first_key, lane);
        for (var r = 0u; r < ROWS; r += 1u) {
            let query = min(first_query + first_score_row(lane) + r, params.tokens - 1u);
            let keys = first_key + own_columns(lane);
            let seen = (keys >= vec4(first_seen(query))) & (keys <= vec4(query));
            s[r] = select(vec4(LOWEST), params.scale * s[r], seen);
            right[(first_score_row(lane) + r) * QUADS + column].x = max(max(s[r].x, s[r].y), max(s[r].z, s[r].w));
        }
        workgroupBarrier();

        // Each invocation of a row had the maximum of its own columns.
        for (var r = 0u; r < ROWS; r += 1u) {
            let row = first_score_row(lane) + r;
            var grown = largest[r];
            for (var c = 0u; c < QUADS; c += 1u) {
                grown = max(grown, right[row * QUADS + c].x);
            }
            let shrink = exp(min(largest[r] - grown, 0.0));
            largest[r] = grown;
            s[r] = exp(min(s[r] - grown, vec4(0.0)));
            weight[r] = fma(weight[r], shrink, dot(s[r], vec4(1.0)));
            left[score_place(row, lane)] = s[r];
            if (column == 0u) {
                factor[row] = shrink;
            }
        }
        workgroupBarrier();
        for (var r = 0u; r < 4u; r += 1u) {
            let shrink = factor[first_row(lane) + r];
            for (var chunk = 0u; chunk < chunks(); chunk += 1u) {
                output[chunk][r] *= shrink;
            }
        }
        multiply_scores(&output, Head(V, kv_head), first_key, lane);
    }

    // The eight invocations of a row add up their weights.
    for (var r = 0u; r < ROWS; r += 1u) {
        right[(first_score_row(lane) + r) * QUADS + column].x = weight[r];
    }
    workgroupBarrier();
    for (var r = 0u; r < ROWS; r += 1u) {
        let row = first_score_row(lane) + r;
        var sum = 0.0;
        for (var c = 0u; c < QUADS; c += 1u) {
            sum += right[row * QUADS + c].x;
        }
        if (column == 0u) {
            factor[row] = sum;
            if (first_query + row < params.tokens) {
                lse[(first_query + row) * params.heads + head] = largest[r] + log(max(sum, 1e-30));
            }
        }
    }
    workgroupBarrier();
    write_row(&output, 0u, first_query, head, lane);
    write_row(&output, 1u, first_query, head, lane);
    write_row(&output, 2u, first_query, head, lane);
    write_row(&output, 3u, first_query, head, lane);
}

fn write_row(output: ptr<function, Sums>, r: u32, first_query: u32, head: u32, lane: u32) {
    let row = first_row(lane) + r;
    if (first_query + row < params.tokens) {
        for (var chunk = 0u; chunk < chunks(); chunk += 1u) {
            let quad = chunk * ACROSS + lane % ACROSS;
            if (in_head(quad)) {
                let first = ((first_query + row) * params.heads + head) * (HEAD_DIM / 4u);
                o[first + quad] = (*output)[chunk][r] / factor[row];
            }
        }
    }
}

fn fetch(source: u32, index: u32) -> vec4<f32> {
    if (source == Q) {
        return q[index];
    }
    if (source == K) {
        return k[index];
    }
    return v[index];
}
