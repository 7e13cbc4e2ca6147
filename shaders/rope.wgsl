// rope: rotates the pair (x[t, h, i], x[t, h, i + d/2]) of q and of k by sign * angle[positions[t], i], in place:
//   a' = a cos - sign b sin,  b' = b cos + sign a sin
// The backward pass is the rotation back: sign = -1. The table holds the cosines, then the sines, of a position.
// An invocation owns one pair (or four).

struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    sign: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(1) var<storage, read> table: array<element>; // [any, head_dim]
@group(0) @binding(2) var<storage, read_write> q: array<element>; // [tokens, heads, head_dim]
@group(0) @binding(3) var<storage, read_write> k: array<element>; // [tokens, kv_heads, head_dim]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let half_width = params.head_dim / (2u * WIDTH);
    let index = linear(workgroup) * 64u + lane;
    let row = index / half_width; // over [tokens, heads + kv_heads]
    let i = index % half_width;
    let both = params.heads + params.kv_heads;
    let token = row / both;
    let head = row % both;
    if (token >= params.tokens) {
        return;
    }
    let entry = positions[token] * 2u * half_width + i;
    let cosine = table[entry];
    let sine = params.sign * table[entry + half_width];

    if (head < params.heads) {
        let first = (token * params.heads + head) * 2u * half_width + i;
        let a = q[first];
        let b = q[first + half_width];
        q[first] = a * cosine - b * sine;
        q[first + half_width] = b * cosine + a * sine;
    } else {
        let first = (token * params.kv_heads + head - params.heads) * 2u * half_width + i;
        let a = k[first];
        let b = k[first + half_width];
        k[first] = a * cosine - b * sine;
        k[first + half_width] = b * cosine + a * sine;
    }
}
