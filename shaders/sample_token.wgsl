// sample_token: the next token of each row, and its log-prob under the whole distribution at temperature 1:
//   logp = x[token] - log sum exp(x)
// Greedy (inverse_temperature = 0): the largest logit, the first of equals. Else a draw from p ~ exp(x / temperature) over the
// tokens that pass, each test over what the ones before it have left (as transformers applies them):
//   top_k: at most that many tokens lie above it (0: off)
//   top_p: the tokens above it hold less than top_p of the probability (1: off)
//   min_prob: it has at least that much of the probability (0: off); the most likely token always passes
// The draw inverts the distribution function over ascending ids at uniform[row], so that it does not depend on the lanes.
// One workgroup a row. A token's rank is by key = the bits of (largest - x) / temperature, which order as that does.

struct Params {
    rows: u32,
    cols: u32,
    stride: u32,
    inverse_temperature: f32,
    top_k: u32,
    top_p: f32,
    min_prob: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>; // [rows, stride]
@group(0) @binding(1) var<storage, read> uniforms: array<f32>; // [rows], 0 <= u < 1
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>; // [rows]
@group(0) @binding(3) var<storage, read_write> logp: array<f32>; // [rows]

const OUTSIDE = 0x7f000000u; // a key that no token has: after the last column

var<workgroup> lane_weights: array<f32, LANES>;

// The scaled distances of four tokens from the largest logit, as keys.
fn keys_at(quad: u32, start: u32, largest: f32) -> vec4<u32> {
    let c = 4u * quad;
    let distance = min((largest - logits[start + quad]) * params.inverse_temperature, vec4(1e30));
    let inside = vec4(c, c + 1u, c + 2u, c + 3u) < vec4(params.cols);
    return select(vec4(OUTSIDE), bitcast<vec4<u32>>(max(distance, vec4(0.0))), inside);
}

// exp(x / temperature), relative to the largest, of the tokens whose key is at most `limit` and whose weight is enough.
fn weights_of(keys: vec4<u32>, limit: u32, least: f32) -> vec4<f32> {
    let weight = exp(min(-bitcast<vec4<f32>>(keys), vec4(0.0)));
    let passes = (keys <= vec4(limit)) & ((weight >= vec4(least)) | (keys == vec4(0u)));
    return select(vec4(0.0), weight, passes);
}

// The largest key below which the tokens up to `limit` have less than `goal`, of their number or of their weight: three
// bits a pass over the row, from the top.
fn key_of_rank(row: Row, largest: f32, lane: Lane, limit: u32, goal: f32, by_weight: bool) -> u32 {
    var key = 0u;
    for (var pass_number = 0u; pass_number < 11u; pass_number += 1u) {
        let step = 1u << (28u - min(3u * pass_number, 28u)); // 28, 25, ..., 1, and 0
        let trials = vec4(key) + step * vec4(1u, 2u, 3u, 4u);
        let more_trials = vec4(key) + step * vec4(5u, 6u, 7u, 7u);
        var below = vec4(0.0);
        var more_below = vec4(0.0);
        for (var quad = lane.index; quad < row.quads; quad += LANES) {
            let keys = keys_at(quad, row.start, largest);
            var weights = weights_of(keys, limit, 0.0);
            if (!by_weight) {
                weights = select(vec4(0.0), vec4(1.0), keys <= vec4(limit));
            }
            for (var i = 0u; i < 4u; i += 1u) {
                below += select(vec4(0.0), vec4(weights[i]), vec4(keys[i]) < trials);
                more_below += select(vec4(0.0), vec4(weights[i]), vec4(keys[i]) < more_trials);
            }
        }
        var less = 0u;
        for (var i = 0u; i < 4u; i += 1u) {
            less += select(0u, 1u, row_sum(below[i], lane) < goal);
        }
        for (var i = 0u; i < 3u; i += 1u) {
            less += select(0u, 1u, row_sum(more_below[i], lane) < goal);
        }
        key += step * less;
    }
    return key;
}

// The weight of all tokens that pass.
fn kept_weight(row: Row, largest: f32, lane: Lane, limit: u32) -> f32 {
    var kept = vec4(0.0);
    for (var quad = lane.index; quad < row.quads; quad += LANES) {
        kept += weights_of(keys_at(quad, row.start, largest), limit, 0.0);
    }
    return row_sum(dot(kept, vec4(1.0)), lane);
}

// A row of logits: its first quad, and how many there are.
struct Row {
    start: u32,
    quads: u32,
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let index = linear(workgroup);
    if (index >= params.rows) {
        return;
    }
    let start = index * params.stride / 4u;
    let quads = (params.cols + 3u) / 4u;

    // The largest logit and its first place
    var own_largest = logits[start].x;
    var own_place = 0u;
    for (var quad = lane.index; quad < quads; quad += LANES) {
        let x = logits[start + quad];
        for (var i = 0u; i < 4u; i += 1u) {
            let better = 4u * quad + i < params.cols && x[i] > own_largest;
            own_place = select(own_place, 4u * quad + i, better);
            own_largest = select(own_largest, x[i], better);
        }
    }
    let largest = row_max(own_largest, lane);
    // Negative, as a float (exact below 2^24), so that the maximum over lanes is the first place.
    let negative_place = select(-f32(params.cols), -f32(own_place), own_largest == largest);
    let best = u32(-row_max(negative_place, lane));
    let row = Row(start, quads);

    var exponentials = vec4(0.0);
    for (var quad = lane.index; quad < quads; quad += LANES) {
        let c = 4u * quad;
        let inside = vec4(c, c + 1u, c + 2u, c + 3u) < vec4(params.cols);
        exponentials += select(vec4(0.0), exp(min(logits[start + quad] - largest, vec4(0.0))), inside);
    }
    let log_sum = log(max(row_sum(dot(exponentials, vec4(1.0)), lane), 1e-30));
    if (params.inverse_temperature == 0.0) {
        if (lane.index == 0u) {
            tokens[index] = best;
            logp[index] = -log_sum;
        }
        return;
    }

    var limit = OUTSIDE - 1u;
    if (params.top_k > 0u && params.top_k < params.cols) {
        limit = min(limit, key_of_rank(row, largest, lane, limit, f32(params.top_k), false));
    }
    if (params.top_p < 1.0) {
        let goal = params.top_p * kept_weight(row, largest, lane, limit);
        limit = min(limit, key_of_rank(row, largest, lane, limit, goal, true));
    }
    let least = params.min_prob * kept_weight(row, largest, lane, limit);

    // The draw: each lane sums up a stretch of the ids, and the one that the goal falls into walks it again.
    let stretch = (quads + LANES - 1u) / LANES;
    let first = min(lane.index * stretch, quads);
    let end = min(first + stretch, quads);
    var own = vec4(0.0);
    for (var quad = first; quad < end; quad += 1u) {
        own += weights_of(keys_at(quad, start, largest), limit, least);
    }
    lane_weights[lane.index] = dot(own, vec4(1.0));
    workgroupBarrier();
    var total = 0.0;
    for (var other = 0u; other < LANES; other += 1u) {
        total += lane_weights[other];
    }
    let goal = uniforms[index] * total;
    var before = 0.0;
    var chosen = 0u; // the lane; where rounding leaves the goal past all, the last that has any weight
    var before_chosen = 0.0;
    var found = false;
    for (var other = 0u; other < LANES; other += 1u) {
        let weight = lane_weights[other];
        if (weight > 0.0 && !found) {
            chosen = other;
            before_chosen = before;
            found = before + weight > goal;
        }
        before += weight;
    }
    if (lane.index == chosen) {
        var reached = before_chosen;
        var token = best;
        var done = false;
        for (var quad = first; quad < end; quad += 1u) {
            let weights = weights_of(keys_at(quad, start, largest), limit, least);
            for (var i = 0u; i < 4u; i += 1u) {
                if (weights[i] > 0.0 && !done) {
                    token = 4u * quad + i;
                    reached += weights[i];
                    done = reached > goal;
                }
            }
        }
        tokens[index] = token;
        let place = min(token, params.cols - 1u);
        logp[index] = logits[start + place / 4u][place % 4u] - largest - log_sum;
    }
}
