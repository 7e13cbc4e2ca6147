// rope_cached: rotates q[t] by angle[positions[t]], in place; k[t], rotated, and v[t] go to row places[t] of a cache:
//   cached_k[places[t]] = R k[t],  cached_v[places[t]] = v[t],  R: a' = a cos - b sin,  b' = b cos + a sin
// for the pairs (x[h, i], x[h, i + d/2]) of a head. The table holds the cosines, then the sines, of a position; the places are
// distinct. An invocation owns one pair (or four) of a head of q, k or v.

struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(1) var<storage, read> places: array<u32>; // [tokens]
@group(0) @binding(2) var<storage, read> table: array<element>; // [any, head_dim]
@group(0) @binding(3) var<storage, read_write> q: array<element>; // [tokens, heads, head_dim]
@group(0) @binding(4) var<storage, read> k: array<element>; // [tokens, kv_heads, head_dim]
@group(0) @binding(5) var<storage, read> v: array<element>; // [tokens, kv_heads, head_dim]
@group(0) @binding(6) var<storage, read_write> cached_k: array<element>; // [any, kv_heads, head_dim]
@group(0) @binding(7) var<storage, read_write> cached_v: array<element>; // [any, kv_heads, head_dim]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let half_width = params.head_dim / (2u * WIDTH);
    let index = linear(workgroup) * 64u + lane;
    let row = index / half_width; // over [tokens, heads + 2 kv_heads]
    let i = index % half_width;
    let all = params.heads + 2u * params.kv_heads;
    let token = row / all;
    let head = row % all;
    if (token >= params.tokens) {
        return;
    }
    let entry = positions[token] * 2u * half_width + i;
    let cosine = table[entry];
    let sine = table[entry + half_width];

    if (head < params.heads) {
        let first = (token * params.heads + head) * 2u * half_width + i;
        let a = q[first];
        let b = q[first + half_width];
        q[first] = a * cosine - b * sine;
        q[first + half_width] = b * cosine + a * sine;
        return;
    }
    let kv_head = (head - params.heads) % params.kv_heads;
    let first = (token * params.kv_heads + kv_head) * 2u * half_width + i;
    let destination = (places[token] * params.kv_heads + kv_head) * 2u * half_width + i;
    if (head < params.heads + params.kv_heads) {
        let a = k[first];
        let b = k[first + half_width];
        cached_k[destination] = a * cosine - b * sine;
        cached_k[destination + half_width] = b * cosine + a * sine;
    } else {
        cached_v[destination] = v[first];
        cached_v[destination + half_width] = v[first + half_width];
    }
}
