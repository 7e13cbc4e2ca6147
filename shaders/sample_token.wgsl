// sample_token: the next token of each row, and its log-prob under the whole distribution at temperature 1:
//   logp = x[token] - log sum exp(x)
// Greedy (inverse_temperature = 0): the largest logit, the first of equals. Else a draw from p ~ exp(x / temperature) over the
// tokens that pass, each test over what the ones before it have left (as transformers applies them):
//   top_k: at most that many tokens lie above it (0: off)
//   top_p: the tokens above it hold less than top_p of the probability (1: off)
//   min_prob: it has at least that much of the probability (0: off); the most likely token always passes
// The draw inverts the distribution function over ascending ids at uniform[row], so that it does not depend on the lanes.
// One workgroup a row. A token's rank is by key = the bits of (largest - x) / temperature, which order as that does. Few tokens
// pass as a rule: those above a bound are gathered and ranked among themselves. Where they are too many or not all that may
// pass, the whole row is ranked in 11 passes a test.

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
const BLOCKS = 256u; // equal stretches of a row; a lane owns some that follow each other
const BOUND_RANK = 224u; // among the blocks' best tokens: of independent logits about 530 are as good
const CANDIDATES = 1024u;

// Of each block's best token; then of the candidates, OUTSIDE after the last.
var<workgroup> keys: array<u32, BLOCKS + CANDIDATES>;
var<workgroup> block_counts: array<u32, BLOCKS>; // of candidates
var<workgroup> candidate_ids: array<u32, CANDIDATES>; // ascending
var<workgroup> lane_weights: array<f32, LANES>;
var<workgroup> candidates_suffice: u32;
var<private> largest_logit: f32; // of the row

// A row of logits, or the blocks' best or the candidates among them.
struct Row {
    start: u32, // quad, of `logits` or of `keys`
    quads: u32,
    in_workgroup: bool,
}

// What one pass finds.
struct Survey {
    place: u32, // of the first of the largest
    log_sum: f32,
}

fn quads_of_block(row: Row) -> u32 {
    return (row.quads + BLOCKS - 1u) / BLOCKS;
}

fn ids_at(quad: u32) -> vec4<u32> {
    return vec4(4u * quad) + vec4(0u, 1u, 2u, 3u);
}

// The scaled distances of four tokens from the largest logit, as keys.
fn keys_at(row: Row, quad: u32) -> vec4<u32> {
    if (row.in_workgroup) {
        let places = ids_at(row.start + quad);
        return vec4(keys[places.x], keys[places.y], keys[places.z], keys[places.w]);
    }
    return select(vec4(OUTSIDE), keys_of(logits[row.start + quad]), ids_at(quad) < vec4(params.cols));
}

fn keys_of(x: vec4<f32>) -> vec4<u32> {
    let distance = min((largest_logit - x) * params.inverse_temperature, vec4(1e30));
    return bitcast<vec4<u32>>(max(distance, vec4(0.0)));
}

// exp(x / temperature), relative to the largest, of the tokens whose key is at most `limit` and whose weight is enough.
fn weights_of(own: vec4<u32>, limit: u32, least: f32) -> vec4<f32> {
    let weight = exp(min(-bitcast<vec4<f32>>(own), vec4(0.0)));
    let passes = (own <= vec4(limit)) & ((weight >= vec4(least)) | (own == vec4(0u)));
    return select(vec4(0.0), weight, passes);
}

fn ones_of(own: vec4<u32>, limit: u32) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), own <= vec4(limit));
}

// What a rank is counted in: a token's weight, or 1.
fn counts_of(own: vec4<u32>, limit: u32, by_weight: bool) -> vec4<f32> {
    return select(ones_of(own, limit), weights_of(own, limit, 0.0), by_weight);
}

// The weight of all tokens that pass.
fn kept_weight(row: Row, lane: Lane, limit: u32) -> f32 {
    var kept = vec4(0.0);
    for (var quad = lane.index; quad < row.quads; quad += LANES) {
        kept += weights_of(keys_at(row, quad), limit, 0.0);
    }
    return row_sum(dot(kept, vec4(1.0)), lane);
}

// The place of the first of four logits that is `value`.
fn place_of(value: f32, x: vec4<f32>, quad: u32, otherwise: u32) -> u32 {
    var place = select(otherwise, 4u * quad + 3u, x.w == value);
    place = select(place, 4u * quad + 2u, x.z == value);
    place = select(place, 4u * quad + 1u, x.y == value);
    return select(place, 4u * quad, x.x == value);
}

// One pass over the row, two quads at a time; the key of what is best of each block goes to keys.
fn survey(row: Row, lane: Lane) -> Survey {
    var m = logits[row.start].x; // the lane's largest: it starts from a value of the row, so that no infinity is needed
    var s = 0.0;
    var place = 0u;
    let block_quads = quads_of_block(row);
    let first_block = lane.index * (BLOCKS / LANES);
    for (var block = first_block; block < first_block + BLOCKS / LANES; block += 1u) {
        let first = block * block_quads;
        let end = min(first + block_quads, row.quads);
        let stop = vec4(min(4u * end, params.cols));
        var best = logits[row.start + min(first, row.quads - 1u)].x;
        for (var quad = first; quad < end; quad += 2u) {
            let inside = ids_at(quad) < stop;
            let next_inside = ids_at(quad + 1u) < stop;
            let x = select(vec4(best), logits[row.start + quad], inside);
            let next_x = select(vec4(best), logits[row.start + min(quad + 1u, row.quads - 1u)], next_inside);
            let pairs = max(x, next_x);
            best = max(max(pairs.x, pairs.y), max(max(pairs.z, pairs.w), best));
            if (best > m) {
                place = place_of(best, x, quad, place_of(best, next_x, quad + 1u, place));
            }
            let largest = max(m, best);
            let e = select(vec4(0.0), exp(min(x - largest, vec4(0.0))), inside);
            let next_e = select(vec4(0.0), exp(min(next_x - largest, vec4(0.0))), next_inside);
            s = fma(exp(min(m - largest, 0.0)), s, dot(e + next_e, vec4(1.0)));
            m = largest;
        }
        keys[block] = bitcast<u32>(best);
    }
    largest_logit = row_max(m, lane);
    // Negative, as a float (exact below 2^24), so that the maximum over lanes is the first place.
    let negative_place = select(-f32(params.cols), -f32(place), m == largest_logit);
    let first_place = u32(-row_max(negative_place, lane));
    let sum = row_sum(s * exp(min(m - largest_logit, 0.0)), lane);
    for (var block = first_block; block < first_block + BLOCKS / LANES; block += 1u) {
        let key = keys_of(vec4(bitcast<f32>(keys[block]))).x;
        keys[block] = select(OUTSIDE, key, block * block_quads < row.quads);
    }
    workgroupBarrier();
    return Survey(first_place, log(max(sum, 1e-30)));
}

// Gathers the tokens whose key is at most `bound`; gives back how many there are, and drops those that find no room.
fn gather_candidates(row: Row, lane: Lane, bound: u32) -> u32 {
    let block_quads = quads_of_block(row);
    let first_block = lane.index * (BLOCKS / LANES);
    let end_block = first_block + BLOCKS / LANES;
    for (var block = first_block; block < end_block; block += 1u) {
        var count = 0.0;
        if (keys[block] <= bound) {
            for (var quad = block * block_quads; quad < min((block + 1u) * block_quads, row.quads); quad += 1u) {
                count += dot(ones_of(keys_at(row, quad), bound), vec4(1.0));
            }
        }
        block_counts[block] = u32(count);
    }
    for (var i = lane.index; i < CANDIDATES; i += LANES) {
        keys[BLOCKS + i] = OUTSIDE;
    }
    workgroupBarrier();
    var place = 0u;
    var count = 0u;
    for (var block = 0u; block < BLOCKS; block += 1u) {
        place += select(0u, block_counts[block], block < first_block);
        count += block_counts[block];
    }
    for (var block = first_block; block < end_block; block += 1u) {
        if (keys[block] <= bound) {
            for (var quad = block * block_quads; quad < min((block + 1u) * block_quads, row.quads); quad += 1u) {
                let own = keys_at(row, quad);
                for (var i = 0u; i < 4u; i += 1u) {
                    if (own[i] <= bound && place < CANDIDATES) {
                        keys[BLOCKS + place] = own[i];
                        candidate_ids[place] = 4u * quad + i;
                        place += 1u;
                    }
                }
            }
        }
    }
    workgroupBarrier();
    return count;
}

// What is counted in `counts`, by keys, of those below each of four trials.
fn counted_below(trials: vec4<u32>, own: vec4<u32>, counts: vec4<f32>) -> vec4<f32> {
    var below = vec4(0.0);
    for (var i = 0u; i < 4u; i += 1u) {
        below += select(vec4(0.0), vec4(counts[i]), vec4(own[i]) < trials);
    }
    return below;
}

// The largest key of a row in workgroup memory below which those up to `limit` have less than `goal`, of their number or of
// their weight: each is held against all others.
fn own_key_of_rank(row: Row, lane: Lane, limit: u32, goal: f32, by_weight: bool) -> u32 {
    var largest = vec4(0u);
    for (var own_quad = lane.index; own_quad < row.quads; own_quad += LANES) {
        let own = keys_at(row, own_quad);
        var below = vec4(0.0);
        for (var quad = 0u; quad < row.quads; quad += 1u) {
            let others = keys_at(row, quad);
            below += counted_below(own, others, counts_of(others, limit, by_weight));
        }
        largest = max(largest, select(vec4(0u), own, (own <= vec4(limit)) & (below < vec4(goal))));
    }
    let pairs = max(largest.xy, largest.zw);
    return bitcast<u32>(row_max(bitcast<f32>(max(pairs.x, pairs.y)), lane));
}

// The largest key below which the tokens up to `limit` have less than `goal`, of their number or of their weight: three
// bits a pass over the row, from the top.
fn key_of_rank(row: Row, lane: Lane, limit: u32, goal: f32, by_weight: bool) -> u32 {
    var key = 0u;
    for (var pass_number = 0u; pass_number < 11u; pass_number += 1u) {
        let step = 1u << (28u - min(3u * pass_number, 28u)); // 28, 25, ..., 1, and 0
        let trials = vec4(key) + step * vec4(1u, 2u, 3u, 4u);
        let more_trials = vec4(key) + step * vec4(5u, 6u, 7u, 7u);
        var below = vec4(0.0);
        var more_below = vec4(0.0);
        for (var quad = lane.index; quad < row.quads; quad += LANES) {
            let own = keys_at(row, quad);
            let counts = counts_of(own, limit, by_weight);
            below += counted_below(trials, own, counts);
            more_below += counted_below(more_trials, own, counts);
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
    return min(key, limit);
}

// The last key that passes a test by rank.
fn limit_of_rank(row: Row, lane: Lane, limit: u32, goal: f32, by_weight: bool) -> u32 {
    if (workgroupUniformLoad(&candidates_suffice) == 1u) {
        return own_key_of_rank(row, lane, limit, goal, by_weight);
    }
    return key_of_rank(row, lane, limit, goal, by_weight);
}

// The token at `uniform` of the distribution function: the lanes' stretches of the row, then those of the stretch that it
// falls into, then token by token. Where rounding leaves the goal past all, it is the last that has any weight.
fn draw(row: Row, lane: Lane, limit: u32, least: f32, uniform: f32) -> u32 {
    var first = 0u;
    var end = row.quads;
    var reached = 0.0;
    var goal = 0.0;
    for (var level = 0u; level < 2u; level += 1u) {
        let stretch = (end - first + LANES - 1u) / LANES;
        let own_first = min(first + lane.index * stretch, end);
        var own = vec4(0.0);
        for (var quad = own_first; quad < min(own_first + stretch, end); quad += 1u) {
            own += weights_of(keys_at(row, quad), limit, least);
        }
        lane_weights[lane.index] = dot(own, vec4(1.0));
        workgroupBarrier();
        if (level == 0u) {
            var total = 0.0;
            for (var other = 0u; other < LANES; other += 1u) {
                total += lane_weights[other];
            }
            goal = uniform * total;
        }
        var before = reached;
        var chosen = 0u;
        var found = false;
        for (var other = 0u; other < LANES; other += 1u) {
            let weight = lane_weights[other];
            if (weight > 0.0 && !found) {
                chosen = other;
                reached = before;
                found = before + weight > goal;
            }
            before += weight;
        }
        first = min(first + chosen * stretch, end);
        end = min(first + stretch, end);
        workgroupBarrier();
    }
    var place = 0u;
    var done = false;
    for (var quad = first; quad < end; quad += 1u) {
        let weights = weights_of(keys_at(row, quad), limit, least);
        for (var i = 0u; i < 4u; i += 1u) {
            if (weights[i] > 0.0 && !done) {
                place = 4u * quad + i;
                reached += weights[i];
                done = reached > goal;
            }
        }
    }
    if (row.in_workgroup) {
        return candidate_ids[place];
    }
    return place;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let index = linear(workgroup);
    if (index >= params.rows) {
        return;
    }
    let quads = (params.cols + 3u) / 4u;
    var row = Row(index * params.stride / 4u, quads, false);
    let found = survey(row, lane);
    if (params.inverse_temperature == 0.0) {
        if (lane.index == 0u) {
            tokens[index] = found.place;
            logp[index] = -found.log_sum;
        }
        return;
    }

    let start = row.start;
    var limit = OUTSIDE - 1u;
    let by_rank = params.top_k > 0u && params.top_k < params.cols;
    let by_share = params.top_p < 1.0;
    if (by_rank || by_share) {
        // Candidates hold all that passes: as many as top_k wants, or as much weight as top_p wants.
        var share = 0.0;
        if (!by_rank) {
            share = params.top_p * kept_weight(row, lane, limit);
        }
        let blocks = Row(0u, BLOCKS / 4u, true);
        let bound_rank = select(BOUND_RANK, params.top_k, by_rank); // where there are fewer blocks, nothing is bounded
        var bound = min(own_key_of_rank(blocks, lane, OUTSIDE, f32(bound_rank), false), limit);
        bound = select(limit, bound, bound_rank <= BLOCKS);
        let count = gather_candidates(row, lane, bound);
        let candidates = Row(BLOCKS / 4u, (min(count, CANDIDATES) + 3u) / 4u, true);
        let weight = kept_weight(candidates, lane, limit);
        if (lane.index == 0u) {
            candidates_suffice = select(0u, 1u, count <= CANDIDATES && weight >= share);
        }
        if (workgroupUniformLoad(&candidates_suffice) == 1u) {
            row = candidates;
        }
        if (by_rank) {
            limit = limit_of_rank(row, lane, limit, f32(params.top_k), false);
            share = params.top_p * kept_weight(row, lane, limit);
        }
        if (by_share) {
            limit = limit_of_rank(row, lane, limit, share, true);
        }
    }
    var least = 0.0;
    if (params.min_prob > 0.0) {
        least = params.min_prob * kept_weight(row, lane, limit);
    }
    let token = draw(row, lane, limit, least, uniforms[index]);
    if (lane.index == 0u) {
        tokens[index] = token;
        let place = min(token, params.cols - 1u);
        logp[index] = logits[start + place / 4u][place % 4u] - largest_logit - found.log_sum;
    }
}
