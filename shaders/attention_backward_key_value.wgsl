// attention_backward_key_value: with p and ds of attention_backward_query, over the heads h of key head g and the
// queries i of the key's sequence with j <= i < j + window:
//   dv[j, g, :] = sum_h sum_i p[i, j] do[i, h, :]
//   dk[j, g, :] = scale * sum_h sum_i ds[i, j] q[i, h, :]

struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
    first_tile: u32,
    first_member: u32,
    members: u32,
    first_gradient: u32, // of APART: 0, to the values, or 1, to the keys
    layers: u32,
    window: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> bounds: array<vec2<u32>>; // [tokens, 2]: sequence start and end
@group(0) @binding(1) var<storage, read> q: array<operand>; // [tokens, heads, HEAD_DIM]
@group(0) @binding(2) var<storage, read> k: array<operand>; // [tokens, kv_heads, HEAD_DIM]
@group(0) @binding(3) var<storage, read> v: array<operand>; // [tokens, kv_heads, HEAD_DIM]
@group(0) @binding(4) var<storage, read> dout: array<operand>; // [tokens, heads, HEAD_DIM]
@group(0) @binding(5) var<storage, read> row_statistics: array<vec2<f32>>; // [tokens, heads, 2]: lse, delta
@group(0) @binding(6) var<storage, read_write> dk: array<vec4<f32>>; // [layers, tokens, kv_heads, HEAD_DIM]
@group(0) @binding(7) var<storage, read_write> dv: array<vec4<f32>>; // [layers, tokens, kv_heads, HEAD_DIM]
