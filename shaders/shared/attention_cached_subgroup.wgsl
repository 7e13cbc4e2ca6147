// attention_cached for a CPU with subgroups: a workgroup is one subgroup and takes four keys at a time; a lane owns the
// quads lane, lane + LANES, ... of a head. Of lanes after the last quad and of members after the last nothing is
// stored.
override LANES = 32u;
override QUADS = 4u; // quads a lane: HEAD_DIM / 4 / LANES, rounded up; at most 8

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let part = part_of(workgroup);
    if (part.index >= params.parts) {
        return;
    }
    let span = span_of(part);
    let width = HEAD_DIM / 4u;

    var query: array<vec4<f32>, 32>; // [MEMBERS, QUADS]
    for (var m = 0u; m < MEMBERS; m += 1u) {
        for (var i = 0u; i < QUADS; i += 1u) {
            let c = lane + i * LANES;
            let value = q[query_of(part, m) + min(c, width - 1u)];
            query[m * QUADS + i] = select(vec4(0.0), value, c < width);
        }
    }

    var largest: array<f32, 4>;
    var weight: array<f32, 4>; // sum of exponentials
    var output: array<vec4<f32>, 32>; // [MEMBERS, QUADS]
    for (var first = 0u; first < span.y; first += 4u) {
        var s: array<vec4<f32>, 4>; // of a member and four keys
        for (var t = 0u; t < 4u; t += 1u) {
            let key = (span.x + min(first + t, span.y - 1u)) * params.kv_heads + part.kv_head;
            for (var i = 0u; i < QUADS; i += 1u) {
                let value = k[key * width + min(lane + i * LANES, width - 1u)];
                for (var m = 0u; m < MEMBERS; m += 1u) {
                    s[m][t] += dot(query[m * QUADS + i], value);
                }
            }
        }
        let keys = vec4(first, first + 1u, first + 2u, first + 3u);
        for (var m = 0u; m < MEMBERS; m += 1u) {
            let scores = params.scale
                * vec4(subgroupAdd(s[m].x), subgroupAdd(s[m].y), subgroupAdd(s[m].z), subgroupAdd(s[m].w));
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
            let key = (span.x + min(first + t, span.y - 1u)) * params.kv_heads + part.kv_head;
            for (var i = 0u; i < QUADS; i += 1u) {
                let value = v[key * width + min(lane + i * LANES, width - 1u)];
                for (var m = 0u; m < MEMBERS; m += 1u) {
                    output[m * QUADS + i] = fma(vec4(s[m][t]), value, output[m * QUADS + i]);
                }
            }
        }
    }

    for (var m = 0u; m < MEMBERS; m += 1u) {
        for (var i = 0u; i < QUADS; i += 1u) {
            let c = lane + i * LANES;
            if (is_member(part, m) && c < width) {
                o[result_of(part, m) * width + c] = output[m * QUADS + i] / max(weight[m], 1.0); // less only where there is no key
            }
        }
        if (lane == 0u && is_member(part, m)) {
            lse[result_of(part, m)] = select(LOWEST, largest[m] + log(max(weight[m], 1.0)), span.y > 0u);
        }
    }
}
