// attention_backward_query: with p[j] = exp(scale q[i, h] . k[j, g] - lse[i, h]) as in the forward pass, computed again,
//   ds[j] = p[j] * (do[i, h] . v[j, g] - delta[i, h])
//   dq[i, h, :] = scale * sum_j ds[j] k[j, g, :]

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
@group(0) @binding(4) var<storage, read> dout: array<operand>; // [tokens, heads, HEAD_DIM]
@group(0) @binding(5) var<storage, read> row_statistics: array<vec2<f32>>; // [tokens, heads, 2]: lse, delta
@group(0) @binding(6) var<storage, read_write> dq: array<vec4<f32>>; // [tokens, heads, HEAD_DIM]
