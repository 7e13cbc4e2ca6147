// embedding_backward: dweight[id - first_row, :] += scale * sum over the tokens t with ids[t] = id of dy[t, :]
// The host groups the tokens by id: group g has the id group_ids[g] and the tokens order[group_starts[g]] ..
// order[group_starts[g + 1] - 1], in ascending order. An invocation owns four columns of one group, so that no two
// write to one place and the order of the sum is fixed.

struct Params {
    groups: u32,
    cols: u32,
    first_row: u32,
    shard_rows: u32,
    scale: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> order: array<u32>; // [tokens]
@group(0) @binding(1) var<storage, read> group_starts: array<u32>; // [groups + 1]
@group(0) @binding(2) var<storage, read> group_ids: array<u32>; // [groups]
@group(0) @binding(3) var<storage, read> dy: array<vec4<f32>>; // [tokens, cols]
@group(0) @binding(4) var<storage, read_write> dweight: array<vec4<f32>>; // [shard_rows, cols]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.cols / 4u;
    let index = linear(workgroup) * 64u + lane;
    let group = index / width;
    let c = index % width;
    if (group >= params.groups) {
        return;
    }
    let row = group_ids[group] - params.first_row; // wraps, and so is too large, below the shard
    if (row >= params.shard_rows) {
        return;
    }
    var sum = vec4<f32>();
    for (var i = group_starts[group]; i < group_starts[group + 1u]; i += 1u) {
        sum += dy[order[i] * width + c];
    }
    dweight[row * width + c] += params.scale * sum;
}
