// attention: causal, over packed sequences, with grouped heads. For token i of the sequence that starts at first(i),
// and head h, with g = h / (heads / kv_heads):
//   s[j] = scale * q[i, h, :] . k[j, g, :]  for max(first(i), i + 1 - window) <= j <= i,  lse = log sum_j exp(s[j])
//   o[i, h, :] = sum_j exp(s[j] - lse) v[j, g, :]

struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
    first_tile: u32,
    window: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> bounds: array<vec2<u32>>; // [tokens, 2]: sequence start and end
@group(0) @binding(1) var<storage, read> q: array<operand>; // [tokens, heads, HEAD_DIM]
@group(0) @binding(2) var<storage, read> k: array<operand>; // [tokens, kv_heads, HEAD_DIM]
@group(0) @binding(3) var<storage, read> v: array<operand>; // [tokens, kv_heads, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> o: array<vec4<f32>>; // [tokens, heads, HEAD_DIM]
@group(0) @binding(5) var<storage, read_write> lse: array<f32>; // [tokens, heads]
