// log_softmax: one chunk (columns first_col .. first_col + cols) of a streamed log-softmax over the vocabulary.
// running[t] carries m = the largest logit so far, s = sum of exp(x - m), u = sum of (x - m) exp(x - m), and the
// target's logit once its chunk has passed. From them, final after the last chunk:
//   logp[t] = x_target - m - log s,   entropy[t] = log s - u / s,   lse[t] = m + log s
// When m grows to m', with d = m - m':  s' = exp(d) s,  u' = exp(d) (u + d s).
// One workgroup a row; rows first_row .. first_row + rows of the tokens.

struct Params {
    rows: u32,
    cols: u32,
    stride: u32,
    first_row: u32,
    first_col: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>; // [rows, stride]
@group(0) @binding(1) var<storage, read> targets: array<u32>; // [tokens]
@group(0) @binding(2) var<storage, read_write> running: array<vec4<f32>>; // [tokens, 4]
@group(0) @binding(3) var<storage, read_write> logp: array<f32>; // [tokens]
@group(0) @binding(4) var<storage, read_write> entropy: array<f32>; // [tokens]
@group(0) @binding(5) var<storage, read_write> lse: array<f32>; // [tokens]

// The columns of the group of four that starts at column c which this chunk has.
fn in_chunk(c: u32) -> vec4<bool> {
    return vec4(c, c + 1u, c + 2u, c + 3u) < vec4(params.cols);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let row = linear(workgroup);
    if (row >= params.rows) {
        return;
    }
    let start = row * params.stride / 4u;
    let token = params.first_row + row;

    // Each lane streams its columns, two groups at a time; it starts from a value of the row, so that no infinity is needed.
    var m = logits[start].x;
    var s = 0.0;
    var u = 0.0;
    for (var c = 4u * lane.index; c < params.cols; c += 8u * LANES) {
        let next = c + 4u * LANES;
        let inside = in_chunk(c);
        let next_inside = in_chunk(next);
        let x = select(vec4(m), logits[start + c / 4u], inside);
        let next_x = select(vec4(m), logits[start + min(next, params.stride - 4u) / 4u], next_inside);
        let pairs = max(x, next_x);
        let largest = max(max(max(pairs.x, pairs.y), max(pairs.z, pairs.w)), m);
        let d = m - largest;
        let e = select(vec4(0.0), exp(min(x - largest, vec4(0.0))), inside);
        let next_e = select(vec4(0.0), exp(min(next_x - largest, vec4(0.0))), next_inside);
        let grown = exp(min(d, 0.0));
        u = fma(grown, fma(d, s, u), dot(x - largest, e) + dot(next_x - largest, next_e));
        s = fma(grown, s, dot(e + next_e, vec4(1.0)));
        m = largest;
    }

    // The lanes meet, then the chunk meets the chunks before it.
    let chunk_m = row_max(m, lane);
    let lane_d = m - chunk_m;
    let lane_grown = exp(min(lane_d, 0.0));
    let chunk_u = row_sum(lane_grown * fma(lane_d, s, u), lane);
    let chunk_s = row_sum(lane_grown * s, lane);
    if (lane.index == 0u) {
        var before = running[token];
        if (params.first_col == 0u) {
            before = vec4(chunk_m, 0.0, 0.0, 0.0);
        }
        let whole_m = max(before.x, chunk_m);
        let before_d = before.x - whole_m;
        let chunk_d = chunk_m - whole_m;
        let before_grown = exp(min(before_d, 0.0));
        let chunk_grown = exp(min(chunk_d, 0.0));
        let whole_s = fma(before_grown, before.y, chunk_grown * chunk_s);
        let whole_u = fma(before_grown, fma(before_d, before.y, before.z), chunk_grown * fma(chunk_d, chunk_s, chunk_u));

        var target_logit = before.w;
        let column = targets[token] - params.first_col; // wraps, and so is too large, below the chunk
        let bounded = min(column, params.cols - 1u);
        if (column == bounded) {
            target_logit = logits[start + bounded / 4u][bounded % 4u];
        }
        running[token] = vec4(whole_m, whole_s, whole_u, target_logit);
        let log_s = log(max(whole_s, 1e-30));
        logp[token] = target_logit - whole_m - log_s;
        entropy[token] = log_s - whole_u / whole_s;
        lse[token] = whole_m + log_s;
    }
}
