// widen_bf16: y[i] = x[i], bf16 as f32; two to a u32, the first in the lower half. An invocation owns four values.

struct Params {
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>; // [count], bf16
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>; // [count], the bits of f32

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = linear(workgroup) * 64u + lane;
    if (i * 4u < params.count) {
        let pairs = x[i];
        y[i] = vec4(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u);
    }
}
