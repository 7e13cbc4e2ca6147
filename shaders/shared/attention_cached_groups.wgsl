// attention_cached for GPUs: of a workgroup's 256 lanes SHARES take a key together, each two quads of a head, lane and
// lane + SHARES of them. Such a group takes four keys at a time, and every so many keys the next four; what the groups
// have is put together in the end, in their order.
const LANES = 256u;
override SHARES = 8u; // 8, 16 or 32: at least HEAD_DIM / 8

// By members: the lanes' parts of four scores; in the end, what the groups have.
var<workgroup> shared_quads: array<vec4<f32>, 2u * LANES>;

alias Share = array<vec4<f32>, 2>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let part = part_of(workgroup);
    if (part.index >= params.parts) {
        return;
    }
    let span = span_of(part);
    let group = lane / SHARES;
    let groups = LANES / SHARES;

    var query: array<Share, 2>; // by members
    for (var m = 0u; m < MEMBERS; m += 1u) {
        for (var i = 0u; i < 2u; i += 1u) {
            let value = q[query_of(part, m) + min(column(lane, i), HEAD_DIM / 4u - 1u)];
            query[m][i] = select(vec4(0.0), value, column(lane, i) < HEAD_DIM / 4u);
        }
    }

    var largest = array(LOWEST, LOWEST);
    var weight: array<f32, 2>; // sum of exponentials
    var output: array<Share, 2>;
    for (var first = 0u; first < span.y; first += 4u * groups) {
        let key = first + 4u * group;
        var values: array<Share, 4>;
        var s: array<vec4<f32>, 2>; // this lane's part of the scores of four keys
        for (var t = 0u; t < 4u; t += 1u) {
            let start = ((span.x + min(key + t, span.y - 1u)) * params.kv_heads + part.kv_head) * (HEAD_DIM / 4u);
            for (var i = 0u; i < 2u; i += 1u) {
                let at = start + min(column(lane, i), HEAD_DIM / 4u - 1u);
                let of_key = k[at];
                values[t][i] = v[at];
                for (var m = 0u; m < MEMBERS; m += 1u) {
                    s[m][t] += dot(query[m][i], of_key);
                }
            }
        }
        for (var m = 0u; m < MEMBERS; m += 1u) {
            shared_quads[m * LANES + lane] = s[m];
        }
        workgroupBarrier();
        for (var m = 0u; m < MEMBERS; m += 1u) {
            var sums = vec4(0.0);
            for (var lane_of_key = 0u; lane_of_key < SHARES; lane_of_key += 1u) {
                sums += shared_quads[m * LANES + group * SHARES + lane_of_key];
            }
            let seen = vec4(key, key + 1u, key + 2u, key + 3u) < vec4(span.y);
            let x = select(vec4(LOWEST), params.scale * sums, seen);
            let grown = max(max(max(x.x, x.y), max(x.z, x.w)), largest[m]);
            let shrink = exp(min(largest[m] - grown, 0.0));
            let p = select(vec4(0.0), exp(min(x - grown, vec4(0.0))), seen);
            largest[m] = grown;
            weight[m] = fma(weight[m], shrink, dot(p, vec4(1.0)));
            for (var i = 0u; i < 2u; i += 1u) {
                let of_two = fma(vec4(p.y), values[1][i], fma(vec4(p.x), values[0][i], shrink * output[m][i]));
                output[m][i] = fma(vec4(p.w), values[3][i], fma(vec4(p.z), values[2][i], of_two));
            }
        }
        workgroupBarrier();
    }

    for (var m = 0u; m < MEMBERS; m += 1u) {
        let total = total_of(largest[m], weight[m], lane);
        let factor = exp(min(largest[m] - total.x, 0.0)) / max(total.y, 1.0);
        for (var i = 0u; i < 2u; i += 1u) {
            shared_quads[i * LANES + lane] = factor * output[m][i];
        }
        workgroupBarrier();
        // Lane by lane: both quads of every lane of a group.
        var sum = vec4(0.0);
        for (var g = 0u; g < groups; g += 1u) {
            sum += shared_quads[group % 2u * LANES + g * SHARES + lane % SHARES];
        }
        let c = column(lane, group % 2u);
        if (group < 2u && c < HEAD_DIM / 4u && is_member(part, m)) {
            o[result_of(part, m) * (HEAD_DIM / 4u) + c] = sum;
        }
        if (lane == 0u && is_member(part, m)) {
            lse[result_of(part, m)] = total.x + log(max(total.y, 1.0));
        }
        workgroupBarrier();
    }
}

// The quad of a head that is a lane's first or second.
fn column(lane: u32, i: u32) -> u32 {
    return lane % SHARES + i * SHARES;
}

// The largest score of all groups, and the sum of exponentials below it: at least 1, but 0 where there is no key.
fn total_of(largest: f32, weight: f32, lane: u32) -> vec2<f32> {
    shared_quads[lane] = vec4(largest, weight, 0.0, 0.0);
    workgroupBarrier();
    var top = LOWEST;
    for (var g = 0u; g < LANES; g += SHARES) {
        top = max(top, shared_quads[g].x);
    }
    var sum = 0.0;
    for (var g = 0u; g < LANES; g += SHARES) {
        let of_group = shared_quads[g];
        sum = fma(exp(min(of_group.x - top, 0.0)), of_group.y, sum);
    }
    workgroupBarrier();
    return vec2(top, sum);
}
