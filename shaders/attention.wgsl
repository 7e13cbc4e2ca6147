// attention: causal, over packed sequences, with grouped heads. For token i of the sequence that starts at first(i),
// and head h, with g = h / (heads / kv_heads):
//   s[j] = scale * q[i, h, :] . k[j, g, :]  for first(i) <= j <= i,  lse = log sum_j exp(s[j])
//   o[i, h, :] = sum_j exp(s[j] - lse) v[j, g, :]
// A workgroup has 32 queries of one head and walks the key tiles from its own back to the sequence's first: in its
// own every query meets itself, so the running maximum is a real score from there on and needs no infinity.

struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
    first_tile: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> bounds: array<vec2<u32>>; // [tokens, 2]: sequence start and end
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>; // [tokens, heads, HEAD_DIM]
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>; // [tokens, kv_heads, HEAD_DIM]
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>; // [tokens, kv_heads, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> o: array<vec4<f32>>; // [tokens, heads, HEAD_DIM]
@group(0) @binding(5) var<storage, read_write> lse: array<f32>; // [tokens, heads]

const LOWEST = -1e30; // below every score

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tx = lane % 8u;
    let ty = lane / 8u;
    let head = workgroup.y;
    let kv_head = head / (params.heads / params.kv_heads);
    let tile = params.first_tile + workgroup.x;
    let first_query = tile * TILE;
    let first_key_tile = bounds[first_query].x / TILE;

    var query: array<u32, 4>; // this invocation's rows, and where their sequences start
    var start: array<u32, 4>;
    for (var r = 0u; r < 4u; r += 1u) {
        query[r] = min(first_query + 4u * ty + r, params.tokens - 1u);
        start[r] = bounds[query[r]].x;
    }
    var largest = array(LOWEST, LOWEST, LOWEST, LOWEST);
    var weight: array<f32, 4>; // sum of exponentials over this invocation's columns
    var output: Sums;

    for (var steps = 0u; steps <= tile - first_key_tile; steps += 1u) {
        let first_key = (tile - steps) * TILE;
        var s: array<vec4<f32>, 4>;
        multiply_rows(&s, Head(Q, head), first_query, Head(K, kv_head), first_key, lane);
        for (var r = 0u; r < 4u; r += 1u) {
            s[r] *= params.scale;
            let seen = select(vec4(LOWEST), s[r], visible(first_key + 4u * tx, start[r], query[r]));
            right[place(4u * ty + r, tx)] = vec4(max(max(seen.x, seen.y), max(seen.z, seen.w)), 0.0, 0.0, 0.0);
        }
        workgroupBarrier();

        // Each invocation of a row had the maximum of its own columns.
        for (var r = 0u; r < 4u; r += 1u) {
            var grown = largest[r];
            for (var c = 0u; c < QUADS; c += 1u) {
                grown = max(grown, right[place(4u * ty + r, c)].x);
            }
            let shrink = exp(min(largest[r] - grown, 0.0));
            largest[r] = grown;
            let p = exp(min(s[r] - grown, vec4(0.0)));
            s[r] = select(vec4(0.0), p, visible(first_key + 4u * tx, start[r], query[r]));
            weight[r] = fma(weight[r], shrink, dot(s[r], vec4(1.0)));
            left[place(4u * ty + r, tx)] = s[r];
            for (var chunk = 0u; chunk < chunks(); chunk += 1u) {
                output[chunk][r] *= shrink;
            }
        }
        workgroupBarrier();
        multiply_scores(&output, Head(V, kv_head), first_key, lane);
    }

    // The eight invocations of a row add up their weights.
    for (var r = 0u; r < 4u; r += 1u) {
        left[place(4u * ty + r, tx)] = vec4(weight[r], 0.0, 0.0, 0.0);
    }
    workgroupBarrier();
    write_row(&output, 0u, largest[0], first_query, head, lane);
    write_row(&output, 1u, largest[1], first_query, head, lane);
    write_row(&output, 2u, largest[2], first_query, head, lane);
    write_row(&output, 3u, largest[3], first_query, head, lane);
}

fn write_row(output: ptr<function, Sums>, r: u32, largest: f32, first_query: u32, head: u32, lane: u32) {
    let tx = lane % 8u;
    let row = lane / 8u * 4u + r;
    var sum = 0.0;
    for (var c = 0u; c < QUADS; c += 1u) {
        sum += left[place(row, c)].x;
    }
    if (first_query + row < params.tokens) {
        let first = (first_query + row) * params.heads + head;
        for (var chunk = 0u; chunk < chunks(); chunk += 1u) {
            if (in_head(chunk, tx)) {
                o[first * (HEAD_DIM / 4u) + chunk * QUADS + tx] = (*output)[chunk][r] / sum;
            }
        }
        if (tx == 0u) {
            lse[first] = largest + log(max(sum, 1e-30));
        }
    }
}

// Which of the keys key .. key + 3 a query sees.
fn visible(key: u32, start: u32, query: u32) -> vec4<bool> {
    let keys = vec4(key, key + 1u, key + 2u, key + 3u);
    return (keys >= vec4(start)) & (keys <= vec4(query));
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
