// log_softmax_backward: one chunk (columns first_col .. first_col + cols), in place:
//   d logp / d x_j = [j = target] - softmax(x)_j,  so  dlogits[t, j] = dlogp[t] * ([j = target] - exp(x[t, j] - lse[t]))
// Columns from cols to stride become 0. One workgroup a row; rows first_row .. first_row + rows.

struct Params {
    rows: u32,
    cols: u32,
    stride: u32,
    first_row: u32,
    first_col: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> targets: array<u32>; // [tokens]
@group(0) @binding(1) var<storage, read> lse: array<f32>; // [tokens]
@group(0) @binding(2) var<storage, read> dlogp: array<f32>; // [tokens]
@group(0) @binding(3) var<storage, read_write> logits: array<vec4<f32>>; // [rows, stride]: logits, then dlogits

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = linear(workgroup);
    if (row >= params.rows) {
        return;
    }
    let token = params.first_row + row;
    let row_lse = lse[token];
    let scale = dlogp[token];
    let hit = vec4(targets[token] - params.first_col); // wraps, and so is too large, below the chunk
    let width = params.stride / 4u;
    for (var i = lane; i < width; i += 64u) {
        let columns = vec4(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u);
        let softmax = exp(min(logits[row * width + i] - row_lse, vec4(0.0)));
        let onehot = select(vec4(0.0), vec4(1.0), columns == hit);
        logits[row * width + i] = select(vec4(0.0), scale * (onehot - softmax), columns < vec4(params.cols));
    }
}
