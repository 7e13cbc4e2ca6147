// embedding: y[t, :] = scale * weight[ids[t] - first_row, :], for the tokens whose id is in this shard of the table
// (rows first_row .. first_row + shard_rows); other tokens are left to the shard that has them.
// An invocation owns four values.

struct Params {
    tokens: u32,
    cols: u32,
    first_row: u32,
    shard_rows: u32,
    scale: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> ids: array<u32>; // [tokens]
@group(0) @binding(1) var<storage, read> weight: array<stored>; // [shard_rows, cols]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // [tokens, cols]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.cols / 4u;
    let index = linear(workgroup) * 64u + lane;
    let token = index / width;
    if (token >= params.tokens) {
        return;
    }
    let row = ids[token] - params.first_row; // wraps, and so is too large, below the shard
    if (row < params.shard_rows) {
        let quad = row * width + index % width;
        let at = places_of(quad);
        y[index] = params.scale * unpack(weight_of(weight[at.x], weight[at.y], weight[at.z], weight[at.w], quad));
    }
}
