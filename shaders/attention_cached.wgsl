// attention_cached: one new query a row against the keys and values of its own sequence in a cache, with grouped heads.
// For row r, whose keys stand in the cache from row first(r) on, count(r) of them, and head h, with g = h / (heads / kv_heads):
//   s[j] = scale * q[r, h, :] . k[first + j, g, :],  o[r, h, :] = sum_j softmax(s)[j] v[first + j, g, :]
// One workgroup a row and up to MEMBERS heads of one key head, which share what is read of keys and values. It takes four
// keys at a time; a lane owns the quads lane, lane + LANES, ... of a head.

struct Params {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> spans: array<vec2<u32>>; // [rows, 2]: first and count
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>; // [rows, heads, HEAD_DIM]
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>; // [any, kv_heads, HEAD_DIM]
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>; // [any, kv_heads, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> o: array<vec4<f32>>; // [rows, heads, HEAD_DIM]

override HEAD_DIM = 64u;
override MEMBERS = 1u; // at most 4
override QUADS = 4u; // quads a lane: HEAD_DIM / 4 / LANES, rounded up; at most 8

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let group = params.heads / params.kv_heads;
    let parts = (group + MEMBERS - 1u) / MEMBERS;
    let row = linear(workgroup) / (params.kv_heads * parts);
    if (row >= params.rows) {
        return;
    }
    let kv_head = linear(workgroup) / parts % params.kv_heads;
    let first_member = linear(workgroup) % parts * MEMBERS;
    let span = spans[row];
    let width = HEAD_DIM / 4u;

    // Members after the last compute the last again, and lanes after the last quad have zeros; neither is stored.
    var query: array<vec4<f32>, 32>; // [MEMBERS, QUADS]
    for (var m = 0u; m < MEMBERS; m += 1u) {
        let head = kv_head * group + min(first_member + m, group - 1u);
        for (var i = 0u; i < QUADS; i += 1u) {
            let c = lane.index + i * LANES;
            let value = q[(row * params.heads + head) * width + min(c, width - 1u)];
            query[m * QUADS + i] = select(vec4(0.0), value, c < width);
        }
    }

    var largest: array<f32, 4>;
    var weight: array<f32, 4>; // sum of exponentials
    var output: array<vec4<f32>, 32>; // [MEMBERS, QUADS]
    for (var first = 0u; first < span.y; first += 4u) {
        var s: array<vec4<f32>, 4>; // of a member and four keys
        for (var t = 0u; t < 4u; t += 1u) {
            let key = (span.x + min(first + t, span.y - 1u)) * params.kv_heads + kv_head;
            for (var i = 0u; i < QUADS; i += 1u) {
                let value = k[key * width + min(lane.index + i * LANES, width - 1u)];
                for (var m = 0u; m < MEMBERS; m += 1u) {
                    s[m][t] += dot(query[m * QUADS + i], value);
                }
            }
        }
        let keys = vec4(first, first + 1u, first + 2u, first + 3u);
        for (var m = 0u; m < MEMBERS; m += 1u) {
            let scores = params.scale
                * vec4(row_sum(s[m].x, lane), row_sum(s[m].y, lane), row_sum(s[m].z, lane), row_sum(s[m].w, lane));
            let x = select(vec4(scores.x), scores, keys < vec4(span.y));
            let before = select(largest[m], x.x, first == 0u);
            largest[m] = max(max(max(x.x, x.y), max(x.z, x.w)), before);
            let shrink = exp(min(before - largest[m], 0.0));
            s[m] = select(vec4(0.0), exp(min(x - largest[m], vec4(0.0))), keys < vec4(span.y));
            weight[m] = fma(weight[m], shrink, dot(s[m], vec4(1.0)));
            for (var i = 0u; i < QUADS; i += 1u) {
                output[m * QUADS + i] *= shrink;
            }
        }
        for (var t = 0u; t < 4u; t += 1u) {
            let key = (span.x + min(first + t, span.y - 1u)) * params.kv_heads + kv_head;
            for (var i = 0u; i < QUADS; i += 1u) {
                let value = v[key * width + min(lane.index + i * LANES, width - 1u)];
                for (var m = 0u; m < MEMBERS; m += 1u) {
                    output[m * QUADS + i] = fma(vec4(s[m][t]), value, output[m * QUADS + i]);
                }
            }
        }
    }

    for (var m = 0u; m < MEMBERS; m += 1u) {
        let head = kv_head * group + first_member + m;
        for (var i = 0u; i < QUADS; i += 1u) {
            let c = lane.index + i * LANES;
            if (first_member + m < group && c < width) {
                o[(row * params.heads + head) * width + c] = output[m * QUADS + i] / weight[m];
            }
        }
    }
}
